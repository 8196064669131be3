//! The pieces of the hot path in this crate and in the wire types below it, with their sizes and limits.

mod batch;
mod kafka;
mod native;
mod outbox;

use heddle_micro::{Piece, Shape};

const ONE_KIB: Shape = Shape { item_count: 1, item_bytes: 1 << 10 };
const HUNDRED_SMALL: Shape = Shape { item_count: 100, item_bytes: 100 };
const ONE_MIB: Shape = Shape { item_count: 1, item_bytes: 1 << 20 };
const ONE: Shape = Shape { item_count: 1, item_bytes: 100 };
const SIXTEEN: Shape = Shape { item_count: 16, item_bytes: 100 };

/// Everything measured here. The limits are allocations of one operation.
pub const ALL: &[Piece] = &[
    // A chunk, and the count of its users, serve many small frames; a large frame has a buffer and such a count alone.
    Piece::new::<native::DecodeProduce>("native-decode-1k", ONE_KIB, 1),
    Piece::new::<native::DecodeProduce>("native-decode-1m", ONE_MIB, 2),
    // The topics, and the partitions of each.
    Piece::new::<kafka::DecodeProduce>("kafka-decode-1k", ONE_KIB, 2),
    Piece::new::<kafka::DecodePartitions>("kafka-decode-16-partitions", SIXTEEN, 2),
    Piece::new::<batch::Verify>("verify-1k", ONE_KIB, 0),
    Piece::new::<batch::Verify>("verify-100x100", HUNDRED_SMALL, 0),
    Piece::new::<batch::Verify>("verify-1m", ONE_MIB, 0),
    Piece::new::<batch::Assign>("assign-1k", ONE_KIB, 0),
    // The buffer, and the count of its users; with many partitions the buffer doubles a few times.
    Piece::new::<kafka::EncodeReply>("kafka-reply-1", ONE, 6),
    Piece::new::<kafka::EncodeReply>("kafka-reply-16-partitions", SIXTEEN, 6),
    Piece::new::<outbox::SendReplies>("outbox-1", ONE, 0),
    Piece::new::<outbox::SendReplies>("outbox-16", SIXTEEN, 0),
];
