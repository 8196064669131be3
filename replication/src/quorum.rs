//! The commit rule: an offset is committed when enough in-sync replicas hold it.

use heddle_proto::ids::Offset;

/// The committed position of a partition.
///
/// `held` is, for each in-sync replica (the primary among them), the offset after the last record it holds in the
/// sense of the topic's durability, as reported in the current epoch. `quorum` is `min.insync.replicas`.
/// Returns `None` when fewer replicas than the quorum are in sync: then nothing new may be committed.
pub fn committed(held: &mut [Offset], quorum: usize) -> Option<Offset> {
    if quorum == 0 || held.len() < quorum {
        return None;
    }
    held.sort_unstable_by(|a, b| b.cmp(a));
    Some(held[quorum - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line: positions held | quorum | committed.
    const TABLE: &str = "
        7       | 1 | 7
        7       | 2 | -
        7 5     | 1 | 7
        7 5     | 2 | 5
        3 9 5   | 1 | 9
        3 9 5   | 2 | 5
        3 9 5   | 3 | 3
        3 9 5   | 4 | -
        4 4 4   | 2 | 4
        4       | 0 | -
    ";

    #[test]
    fn quorum_table() {
        for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let mut held: Vec<Offset> = columns[0]
                .split_whitespace()
                .map(|text| Offset::new(text.parse().expect("a number")))
                .collect();
            let expected = columns[2].parse().ok().map(Offset::new);
            assert_eq!(committed(&mut held, columns[1].parse().expect("a number")), expected, "{line}");
        }
    }
}
