//! Replies on their way out: a place for each, filled in any order, sent together in the right one.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use heddle_micro::{Case, Shape};
use heddle_net::outbox::{Closed, Outbox, OutboxOptions, ReplySlot, Sink, outbox};

/// A connection that takes everything at once. Its copy stands for the kernel's.
struct Taken(Rc<RefCell<Vec<u8>>>);

impl Sink for Taken {
    async fn send(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        let mut taken = self.0.borrow_mut();
        chunks.iter().for_each(|chunk| taken.extend_from_slice(chunk));
        Ok(())
    }

    fn finish(&mut self) {}

    fn abort(&mut self) {
        panic!("nothing fails here");
    }
}

type Writer = Pin<Box<dyn Future<Output = Result<(), Closed>>>>;

/// So many requests of one connection are answered, the last one first.
pub struct SendReplies {
    outbox: Outbox,
    writer: RefCell<Writer>,
    taken: Rc<RefCell<Vec<u8>>>,
    slots: RefCell<Vec<ReplySlot>>,
    replies: Vec<Bytes>,
}

impl Case for SendReplies {
    type Input = ();
    type Output = usize;

    fn new(shape: Shape) -> Self {
        let (outbox, writer) = outbox(OutboxOptions::default());
        let taken = Rc::new(RefCell::new(Vec::new()));
        let reply = |index: usize| Bytes::from(vec![index as u8; shape.item_bytes]);
        SendReplies {
            outbox,
            writer: RefCell::new(Box::pin(writer.run(Taken(taken.clone()), ()))),
            taken,
            slots: RefCell::default(),
            replies: (0..shape.item_count).map(reply).collect(),
        }
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> usize {
        self.taken.borrow_mut().clear();
        let mut slots = self.slots.borrow_mut();
        for _ in &self.replies {
            slots.push(self.outbox.try_slot(0).expect("the outbox is open").expect("there is room"));
        }
        for reply in self.replies.iter().rev() {
            slots.pop().expect("each has one").fill(reply.clone());
        }
        let ended = self.writer.borrow_mut().as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(ended.is_pending(), "the writer goes on until the outbox is closed");
        self.taken.borrow().len()
    }

    fn check(&self, sent_bytes: usize) {
        assert_eq!(sent_bytes, self.taken.borrow().len());
        assert_eq!(*self.taken.borrow(), self.replies.concat());
    }
}
