//! Replies leave in order whatever the order of completion, and the queues stay within their bounds.
use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;

/// Counts how often it was woken.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl WakeCount {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Collects what is sent. While `blocked` it takes nothing; it fails once `failing`.
#[derive(Clone, Default)]
struct Collected {
    sent: Rc<RefCell<Vec<u8>>>,
    sends: Rc<Cell<usize>>,
    blocked: Rc<Cell<bool>>,
    failing: Rc<Cell<bool>>,
    ended: Rc<Cell<Option<bool>>>,
}

impl Sink for Collected {
    async fn send(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        poll_fn(|_| if self.blocked.get() { Poll::Pending } else { Poll::Ready(()) }).await;
        if self.failing.get() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.sends.set(self.sends.get() + 1);
        for chunk in chunks {
            assert!(!chunk.is_empty());
            self.sent.borrow_mut().extend_from_slice(chunk);
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.ended.set(Some(true));
    }

    fn abort(&mut self) {
        self.ended.set(Some(false));
    }
}

/// An outbox whose writer is polled by hand.
struct Rig {
    outbox: Outbox,
    sink: Collected,
    writer: Pin<Box<dyn Future<Output = Result<(), Closed>>>>,
    wakes: Arc<WakeCount>,
}

impl Rig {
    fn new(options: OutboxOptions) -> Rig {
        let (outbox, writer) = outbox(options);
        let sink = Collected::default();
        let writer = Box::pin(writer.run(sink.clone(), ()));
        Rig { outbox, sink, writer, wakes: Arc::default() }
    }

    fn poll_writer(&mut self) -> Poll<Result<(), Closed>> {
        let waker = Waker::from(self.wakes.clone());
        self.writer.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn try_slot(&self) -> ReplySlot {
        self.outbox.try_slot(0).unwrap().expect("room")
    }

    fn sent(&self) -> Vec<u8> {
        self.sink.sent.take()
    }
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    let future = pin!(future);
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn small(options: OutboxOptions) -> OutboxOptions {
    OutboxOptions { reply_count_max: 4, reply_bytes_max: 100, push_bytes_max: 50, ..options }
}

proptest! {
    #[test]
    fn any_order_of_completion_leaves_in_order(
        sizes in proptest::collection::vec(prop_oneof![1usize..40, 1000usize..3000], 1..60),
        order in any::<prop::sample::Index>(),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 60),
        send_bytes_max in prop_oneof![Just(1usize), Just(2_000), Just(1 << 20)],
    ) {
        let mut rig = Rig::new(OutboxOptions { send_bytes_max, ..OutboxOptions::default() });
        let messages: Vec<Bytes> =
            sizes.iter().enumerate().map(|(i, size)| Bytes::from(vec![i as u8; *size])).collect();
        let split = order.index(sizes.len());
        let mut slots: Vec<_> = (0..sizes.len()).map(|i| (i, rig.try_slot())).collect();
        let mut picks = picks.into_iter();
        while !slots.is_empty() {
            let (pick, poll) = picks.next().expect("one for each");
            let (i, slot) = slots.swap_remove(pick.index(slots.len()));
            if i < split {
                slot.fill(messages[i].clone());
            } else {
                slot.fill(vec![messages[i].slice(..1), messages[i].slice(1..)]);
            }
            if poll {
                prop_assert!(rig.poll_writer().is_pending());
            }
        }
        prop_assert!(rig.poll_writer().is_pending());
        prop_assert_eq!(rig.sent(), messages.concat());
        let stats = rig.outbox.stats();
        prop_assert_eq!((stats.queued_reply_count, stats.queued_reply_bytes), (0, 0));
        prop_assert_eq!(stats.reply_count as usize, sizes.len());
    }

    #[test]
    fn queues_stay_within_their_bounds(
        steps in proptest::collection::vec((0u8..5, 1usize..60, any::<prop::sample::Index>()), 1..200),
    ) {
        let options = small(OutboxOptions::default());
        let mut rig = Rig::new(options);
        let mut slots: VecDeque<ReplySlot> = VecDeque::new();
        for (step, bytes, pick) in steps {
            match step {
                0 | 1 => slots.extend(rig.outbox.try_slot(bytes).unwrap()),
                2 if !slots.is_empty() => {
                    let slot = slots.remove(pick.index(slots.len())).unwrap();
                    slot.fill(Bytes::from(vec![0; 1]));
                }
                3 => drop(rig.outbox.try_push(Bytes::from(vec![0; bytes]).into()).unwrap()),
                _ => {
                    rig.sink.blocked.set(bytes % 2 == 0);
                    prop_assert!(rig.poll_writer().is_pending());
                }
            }
            let stats = rig.outbox.stats();
            prop_assert!(stats.queued_reply_count <= options.reply_count_max);
            prop_assert!(stats.queued_reply_bytes <= options.reply_bytes_max);
            prop_assert!(stats.queued_push_bytes <= options.push_bytes_max.max(60));
        }
        rig.sink.blocked.set(false);
        slots.into_iter().for_each(|slot| slot.fill(Bytes::from_static(b"x")));
        rig.outbox.close();
        prop_assert_eq!(rig.poll_writer(), Poll::Ready(Ok(())));
        prop_assert_eq!(rig.outbox.stats().queued_push_bytes, 0);
    }
}

#[test]
fn only_the_next_reply_wakes_the_writer() {
    let mut rig = Rig::new(OutboxOptions::default());
    let (first, second, third) = (rig.try_slot(), rig.try_slot(), rig.try_slot());
    assert!(rig.poll_writer().is_pending());
    third.fill(Bytes::from_static(b"3"));
    second.fill(Bytes::from_static(b"2"));
    assert_eq!(rig.wakes.get(), 0);
    first.fill(Bytes::from_static(b"1"));
    assert_eq!(rig.wakes.get(), 1);
    assert!(rig.poll_writer().is_pending());
    assert_eq!((rig.sent(), rig.sink.sends.get()), (b"123".to_vec(), 1));
}

#[test]
fn a_full_outbox_holds_the_reader_until_something_was_sent() {
    let mut rig = Rig::new(small(OutboxOptions::default()));
    let mut slots: Vec<_> = (0..4).map(|_| rig.try_slot()).collect();
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(wakes.clone());
    let outbox = rig.outbox.clone();
    let mut ready = pin!(outbox.ready());
    assert!(ready.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    rig.sink.blocked.set(true);
    slots.remove(0).fill(Bytes::from_static(b"0"));
    assert!(rig.poll_writer().is_pending());
    assert_eq!((wakes.get(), rig.outbox.stats().queued_reply_count), (0, 4), "being sent still counts");
    rig.sink.blocked.set(false);
    assert!(rig.poll_writer().is_pending());
    assert_eq!(wakes.get(), 1);
    assert!(ready.poll(&mut Context::from_waker(&waker)).is_ready());
    slots.into_iter().for_each(|slot| slot.fill(Bytes::new()));
}

#[test]
fn reservations_count_until_they_are_filled() {
    let rig = Rig::new(small(OutboxOptions::default()));
    let slot = rig.outbox.try_slot(90).unwrap().unwrap();
    assert!(rig.outbox.try_slot(20).unwrap().is_none());
    slot.fill(Bytes::from_static(b"short"));
    assert_eq!(rig.outbox.stats().queued_reply_bytes, 5);
    rig.outbox.try_slot(20).unwrap().expect("room").fill(Bytes::new());
}

#[test]
fn a_message_above_the_bound_passes_alone() {
    let rig = Rig::new(small(OutboxOptions::default()));
    let slot = rig.outbox.try_slot(1000).unwrap().expect("an empty queue takes anything");
    assert!(rig.outbox.try_slot(1).unwrap().is_none());
    slot.fill(Bytes::new());
    assert!(rig.outbox.try_push(Bytes::from(vec![0; 1000]).into()).unwrap().is_none());
    assert!(rig.outbox.try_push(Bytes::from_static(b"x").into()).unwrap().is_some());
}

#[test]
fn pushes_pass_replies_that_wait() {
    let mut rig = Rig::new(OutboxOptions::default());
    let slot = rig.try_slot();
    assert!(poll_once(rig.outbox.push(Bytes::from_static(b"p").into(), None)).is_ready());
    assert!(rig.poll_writer().is_pending());
    assert_eq!(rig.sent(), b"p");
    slot.fill(Bytes::from_static(b"r"));
    assert!(rig.poll_writer().is_pending());
    assert_eq!(rig.sent(), b"r");
}

#[test]
fn a_failed_send_is_told_to_the_reader() {
    let mut rig = Rig::new(OutboxOptions::default());
    rig.sink.failing.set(true);
    let late = (rig.try_slot(), rig.try_slot());
    late.0.fill(Bytes::from_static(b"x"));
    let failed = Closed::SendFailed(io::ErrorKind::ConnectionReset);
    assert_eq!(rig.poll_writer(), Poll::Ready(Err(failed)));
    assert_eq!(rig.sink.ended.get(), Some(false));
    assert_eq!(block_on(rig.outbox.ready()), Err(failed));
    assert_eq!(block_on(rig.outbox.push(Bytes::from_static(b"y").into(), None)), Err(failed));
    late.1.fill(Bytes::from_static(b"too late"));
    assert_eq!(rig.outbox.stats().queued_reply_bytes, 0);
}

#[test]
fn a_dropped_slot_closes_the_connection() {
    let mut rig = Rig::new(OutboxOptions::default());
    let (first, second) = (rig.try_slot(), rig.try_slot());
    drop(first);
    second.fill(Bytes::from_static(b"would be taken for the first"));
    assert_eq!(rig.poll_writer(), Poll::Ready(Err(Closed::ReplyLost)));
    assert!(rig.sent().is_empty());
}

#[test]
fn closing_sends_what_is_queued_and_awaited() {
    let mut rig = Rig::new(OutboxOptions::default());
    let slot = rig.try_slot();
    rig.outbox.close();
    assert_eq!(rig.outbox.try_slot(0).err(), Some(Closed::Closing));
    assert!(rig.poll_writer().is_pending());
    slot.fill(Bytes::from_static(b"last"));
    assert_eq!(rig.poll_writer(), Poll::Ready(Ok(())));
    assert_eq!((rig.sent(), rig.sink.ended.get()), (b"last".to_vec(), Some(true)));
}

#[test]
fn a_dropped_writer_is_told_to_the_reader() {
    let rig = Rig::new(OutboxOptions::default());
    let outbox = rig.outbox.clone();
    drop(rig);
    assert_eq!(block_on(outbox.ready()), Err(Closed::SendFailed(io::ErrorKind::BrokenPipe)));
}

#[test]
fn small_chunks_are_sent_together_and_large_ones_uncopied() {
    let mut batch = Batch::default();
    let large = Bytes::from(vec![1; COALESCE_BYTES_MAX]);
    for _ in 0..10 {
        batch.add(Reply::One(Bytes::from_static(b"small")), None);
    }
    batch.add(Reply::Two(Bytes::from_static(b"head"), large.clone()), None);
    batch.add(Reply::One(Bytes::from_static(b"tail")), None);
    batch.seal();
    assert_eq!(batch.chunks.len(), 3);
    assert_eq!(batch.chunks[0].len(), 54);
    assert_eq!(batch.chunks[1].as_ptr(), large.as_ptr());
}

#[test]
fn connections_share_a_budget_and_none_is_stopped_by_it() {
    let budget = Budget::new(1000);
    let options = OutboxOptions::default();
    let (greedy, writer) = outbox_within(options, budget.clone());
    let (modest, other_writer) = outbox_within(options, budget.clone());
    let message = || Reply::One(Bytes::from_static(&[7; 300]));
    let mut taken = 0;
    while greedy.try_push(message()).unwrap().is_none() {
        taken += 1;
    }
    assert_eq!((taken, budget.used_bytes()), (3, 900));
    assert!(modest.try_push(message()).unwrap().is_none(), "one message passes over the budget");
    assert!(modest.try_push(message()).unwrap().is_some());
    // A slot for a small reply waits as well while the connection holds something.
    assert!(modest.try_slot(0).unwrap().is_none());
    drop(writer);
    assert_eq!(budget.used_bytes(), 300, "a connection that ends gives back what it held");
    let slot = modest.try_slot(0).unwrap().expect("there is room again");
    slot.fill(Bytes::from_static(&[7; 100]));
    assert_eq!(budget.used_bytes(), 400);
    modest.close();
    block_on(other_writer.run(Collected::default(), ())).unwrap();
    assert_eq!(budget.used_bytes(), 0, "what was sent is given back");
}
