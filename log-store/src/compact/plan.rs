//! Which segments are written into one: neighbours, as long as the result is no larger than a segment may be.

use crate::segment::SegmentRef;

/// Most segments made into one at a time, so that taking their place is done quickly.
const GROUP_SEGMENTS_MAX: usize = 64;

/// Divides consecutive segments into groups of at most `bytes_max`; each has at least one. A group spans no more offsets
/// than one batch can stand for.
pub(crate) fn groups(segments: &[SegmentRef], bytes_max: u64) -> Vec<Vec<SegmentRef>> {
    let mut groups: Vec<Vec<SegmentRef>> = Vec::new();
    let mut bytes = 0;
    for segment in segments {
        let joins = groups.last().is_some_and(|group| {
            let span = group.first().map_or(0, |first| segment.end.since(first.base));
            let follows = group.last().is_some_and(|last| last.end == segment.base);
            follows
                && bytes + segment.data_bytes <= bytes_max
                && span <= i64::from(i32::MAX)
                && group.len() < GROUP_SEGMENTS_MAX
        });
        if !joins {
            groups.push(Vec::new());
            bytes = 0;
        }
        bytes += segment.data_bytes;
        if let Some(group) = groups.last_mut() {
            group.push(*segment);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::Offset;

    use super::*;

    fn segment(base: i64, end: i64, data_bytes: u64) -> SegmentRef {
        let (base, end) = (Offset::new(base), Offset::new(end));
        SegmentRef { base, end, version: 0, data_bytes, tombstones_due: None }
    }

    #[test]
    fn neighbours_join_up_to_the_limits() {
        let far = i64::from(i32::MAX) + 100;
        let segments = [
            segment(0, 10, 400),
            segment(10, 20, 500),
            segment(20, 30, 200),
            segment(30, 40, 5000),
            segment(40, 50, 100),
            segment(60, 70, 100), // something is missing before it
            segment(70, far, 100),
        ];
        let lengths: Vec<usize> = groups(&segments, 1000).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1, 1, 1]);
        let many: Vec<SegmentRef> = (0..200).map(|n| segment(n, n + 1, 1)).collect();
        assert!(groups(&many, 1 << 30).iter().all(|group| group.len() <= GROUP_SEGMENTS_MAX));
    }
}
