//! Offsets that compaction has emptied, as batches without records: a replica has to hold every offset.
//!
//! The log may pass them over, and the holes it keeps do not say where in them an epoch began. What is sent to a backup
//! does, so that the histories of the two logs stay the same.

use bytes::Bytes;
use heddle_proto::batch::{self, BatchHeader};
use heddle_proto::ids::{Epoch, Offset};
use heddle_replication::history::History;

/// The longest hole, so that its last offset fits into the delta of a batch.
const HOLE_OFFSETS_MAX: i64 = 1 << 30;

/// What was read from `from` on, without gaps and in holes of one epoch each; nothing of it ends beyond `upto`. With what is
/// added it may be more than `bytes_max`: then less of it, but at least one batch, so that a frame has room for it.
pub(crate) fn fill(
    history: &History,
    (from, upto): (Offset, Offset),
    bytes_max: usize,
    batches: Vec<Bytes>,
) -> Vec<Bytes> {
    let headers = batches.iter().map_while(|batch| BatchHeader::parse(batch).ok());
    let headers: Vec<BatchHeader> = headers.collect();
    let follows = |pair: &[BatchHeader]| pair[0].next_offset() == pair[1].base_offset;
    let begins = headers.first().is_none_or(|first| first.base_offset == from);
    if begins && headers.windows(2).all(follows) && !headers.iter().any(BatchHeader::is_hole) {
        return batches;
    }
    let (mut next, mut filled) = (from, Vec::with_capacity(2 * batches.len()));
    for (bytes, header) in batches.into_iter().zip(headers) {
        if !header.is_hole() {
            add_holes(history, (next, header.base_offset), header.epoch, &mut filled);
            next = header.next_offset();
            filled.push(bytes);
        } else if header.next_offset() > next {
            let end = header.next_offset().min(upto);
            add_holes(history, (next, end), header.epoch, &mut filled);
            next = end;
        }
    }
    let mut bytes = 0;
    let fits = |batch: &&Bytes| {
        bytes += batch.len();
        bytes <= bytes_max
    };
    let fit_count = filled.iter().take_while(fits).count();
    filled.truncate(fit_count.max(1));
    filled
}

/// Holes for a range of offsets. What the history does not know any more counts as of `epoch` or the first known one.
fn add_holes(history: &History, (from, upto): (Offset, Offset), epoch: Epoch, holes: &mut Vec<Bytes>) {
    let known = history.of_range(from, upto);
    let known = known.entries();
    let oldest = known.first().map_or(epoch, |(first, _)| epoch.min(*first));
    let is_forgotten = known.first().is_none_or(|(_, start)| *start > from);
    let forgotten = is_forgotten.then_some((oldest, from));
    let starts: Vec<(Epoch, Offset)> = forgotten.into_iter().chain(known.iter().copied()).collect();
    for (index, (epoch, start)) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(upto, |(_, start)| *start);
        let mut at = *start;
        while at < end {
            let next = end.min(at.plus(HOLE_OFFSETS_MAX));
            holes.push(batch::hole(at, next, *epoch).freeze());
            at = next;
        }
    }
}

/// The part of a batch that lies in a range, if there is one: a batch is whole, and a hole may be cut to size, as what
/// was a batch when it was first sent may be a part of a hole now.
pub(crate) fn within(
    (bytes, header): &(Bytes, BatchHeader),
    (from, upto): (Offset, Offset),
) -> Option<(Bytes, BatchHeader)> {
    if header.base_offset >= from && header.next_offset() <= upto {
        return Some((bytes.clone(), *header));
    }
    let (base, next) = (header.base_offset.max(from), header.next_offset().min(upto));
    if !header.is_hole() || base >= next {
        return None;
    }
    let bytes = batch::hole(base, next, header.epoch).freeze();
    let header = BatchHeader::parse(&bytes).expect("a hole is a batch");
    Some((bytes, header))
}

#[cfg(test)]
mod tests {
    use heddle_proto::batch::{BatchBuilder, Compression};
    use heddle_proto::ids::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn records(base: i64, next: i64, epoch: i32) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in base..next {
            builder.push(Timestamp::new(1), None, Some(b"value"), &[]).expect("fits");
        }
        let mut bytes = builder.build().expect("builds");
        batch::assign(&mut bytes, Offset::new(base), Epoch::new(epoch));
        bytes.freeze()
    }

    fn spans(batches: &[Bytes]) -> Vec<(i64, i64, i32, bool)> {
        let span = |bytes: &Bytes| {
            let header = batch::verify_stored(bytes).expect("is sound");
            let epoch = header.epoch.get();
            (header.base_offset.get(), header.next_offset().get(), epoch, header.is_hole())
        };
        batches.iter().map(span).collect()
    }

    fn history(entries: &[(i32, i64)]) -> History {
        let entries = entries.iter().map(|(epoch, start)| (Epoch::new(*epoch), Offset::new(*start)));
        History::from_entries(entries.collect()).expect("rises")
    }

    #[test]
    fn holes_are_of_one_epoch_and_end_in_time() {
        let history = history(&[(3, 0), (4, 15), (6, 30)]);
        let hole =
            |from, to, epoch| batch::hole(Offset::new(from), Offset::new(to), Epoch::new(epoch)).freeze();
        let filled = |from, upto, batches| {
            spans(&fill(&history, (Offset::new(from), Offset::new(upto)), usize::MAX, batches))
        };
        assert_eq!(filled(10, 12, vec![records(10, 12, 3)]), [(10, 12, 3, false)]);
        assert_eq!(
            filled(10, 40, vec![records(12, 13, 3), records(33, 40, 6)]),
            [
                (10, 12, 3, true),
                (12, 13, 3, false),
                (13, 15, 3, true),
                (15, 30, 4, true),
                (30, 33, 6, true),
                (33, 40, 6, false)
            ]
        );
        assert_eq!(filled(10, 20, vec![hole(0, 50, 6)]), [(10, 15, 3, true), (15, 20, 4, true)]);
        assert_eq!(filled(10, 20, vec![]), []);
    }

    #[test]
    fn what_is_added_takes_no_more_room_than_there_is() {
        let history = history(&[(3, 0)]);
        let batches = || vec![records(12, 13, 3), records(15, 40, 3)];
        let range = (Offset::new(10), Offset::new(40));
        let counts = |bytes_max| fill(&history, range, bytes_max, batches()).len();
        let first_bytes = 61 + batches()[0].len();
        assert_eq!([1, 61, first_bytes, first_bytes + 60, 4096].map(counts), [1, 1, 2, 2, 4]);
    }

    #[test]
    fn what_the_history_has_dropped_is_of_no_later_epoch() {
        let history = history(&[(70, 100), (71, 120)]);
        let range = (Offset::new(10), Offset::new(130));
        let filled = fill(&history, range, usize::MAX, vec![records(125, 130, 71)]);
        let expected =
            [(10, 100, 70, true), (100, 120, 70, true), (120, 125, 71, true), (125, 130, 71, false)];
        assert_eq!(spans(&filled), expected);
    }

    #[test]
    fn a_hole_is_cut_to_what_is_missing() {
        let part = |bytes: Bytes, from, upto| {
            let header = BatchHeader::parse(&bytes).expect("is a batch");
            let found = within(&(bytes, header), (Offset::new(from), Offset::new(upto)));
            found.map(|(bytes, _)| spans(&[bytes])[0])
        };
        let hole = || batch::hole(Offset::new(10), Offset::new(20), Epoch::new(2)).freeze();
        assert_eq!(part(hole(), 15, 30), Some((15, 20, 2, true)));
        assert_eq!(part(hole(), 20, 30), None);
        assert_eq!(part(records(10, 20, 2), 15, 30), None);
        assert_eq!(part(records(10, 20, 2), 10, 20), Some((10, 20, 2, false)));
    }

    proptest! {
        /// A log in which any batches were emptied: nothing but records stays as it was, and nothing is missing.
        #[test]
        fn a_log_with_holes_is_whole_again(
            log in prop::collection::vec((1..5i64, 0..2i32, any::<bool>()), 1..20),
            begin in 0..20usize,
        ) {
            let (mut at, mut epoch, mut whole, mut entries) = (0, 1, Vec::new(), Vec::new());
            for (count, more, stays) in &log {
                epoch += more;
                if entries.last().is_none_or(|(last, _)| *last < epoch) {
                    entries.push((epoch, at));
                }
                whole.push((at, at + count, epoch, *stays));
                at += count;
            }
            let whole = &whole[begin.min(whole.len() - 1)..];
            let kept: Vec<Bytes> =
                whole.iter().filter(|batch| batch.3).map(|(base, next, epoch, _)| records(*base, *next, *epoch)).collect();
            let range = (Offset::new(whole[0].0), Offset::new(at));
            let filled = spans(&fill(&history(&entries), range, usize::MAX, kept.clone()));
            let mut next = whole[0].0;
            for (base, end, epoch, is_hole) in &filled {
                prop_assert_eq!(*base, next);
                next = *end;
                for offset in *base..*end {
                    let (_, _, wanted, stays) = whole.iter().find(|batch| batch.0 <= offset && offset < batch.1).expect("is there");
                    prop_assert_eq!((wanted, *stays), (epoch, !is_hole));
                }
            }
            let last = kept.last().map_or(whole[0].0, |last| BatchHeader::parse(last).expect("is a batch").next_offset().get());
            prop_assert_eq!(next, last);
        }
    }
}
