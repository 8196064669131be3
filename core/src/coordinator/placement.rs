//! Which partition of its internal topic a coordinator's key (a group, a transactional id) belongs to.

use heddle_proto::ids::PartitionIndex;

/// The partition of `key` in a topic of `partition_count` partitions: Kafka's own rule (Java's hash of the text over its
/// UTF-16 units, without the sign), so that tools which compute it agree.
pub fn partition_of(key: &str, partition_count: u32) -> PartitionIndex {
    let hash = key.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    PartitionIndex::new((hash & 0x7fff_ffff) % partition_count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_kafka() {
        // "hello".hashCode() is 99162322; "polygenelubricants".hashCode() is the smallest negative number.
        assert_eq!(partition_of("hello", 50).get(), 99_162_322 % 50);
        assert_eq!(partition_of("polygenelubricants", 50).get(), 0);
        assert_eq!(partition_of("", 16).get(), 0);
        assert_eq!(partition_of("a", 0).get(), 0);
    }
}
