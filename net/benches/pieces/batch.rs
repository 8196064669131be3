//! What is done to every batch: its check, and the offset and epoch written into it.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;
use heddle_micro::{Case, Shape};
use heddle_proto::batch::{self, BatchError, BatchHeader};
use heddle_proto::{Epoch, Offset};

/// The whole check of one batch, CRC included.
pub struct Verify {
    batch: RefCell<BytesMut>,
    shape: Shape,
}

impl Verify {
    fn flip_last_bit(&self) {
        *self.batch.borrow_mut().last_mut().expect("a batch is not empty") ^= 1;
    }
}

impl Case for Verify {
    type Input = ();
    type Output = Result<BatchHeader, BatchError>;

    fn new(shape: Shape) -> Self {
        Verify { batch: RefCell::new(heddle_micro::batch(shape)), shape }
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> Self::Output {
        batch::verify(&self.batch.borrow())
    }

    fn check(&self, output: Self::Output) {
        let header = output.expect("the batch is whole");
        assert_eq!(header.record_count as usize, self.shape.item_count);
        assert_eq!(header.batch_bytes as usize, self.batch.borrow().len());
        self.flip_last_bit();
        assert!(matches!(self.run(()), Err(BatchError::Crc { .. })), "damage is not noticed");
        self.flip_last_bit();
    }
}

/// Base offset and epoch, written where the batch lies.
pub struct Assign {
    batch: RefCell<BytesMut>,
    next: Cell<i64>,
}

impl Case for Assign {
    type Input = Offset;
    type Output = Offset;

    fn new(shape: Shape) -> Self {
        Assign { batch: RefCell::new(heddle_micro::batch(shape)), next: Cell::new(1 << 40) }
    }

    fn input(&self) -> Offset {
        self.next.set(self.next.get() + 1);
        Offset::new(self.next.get())
    }

    fn run(&self, base: Offset) -> Offset {
        batch::assign(&mut self.batch.borrow_mut(), base, Epoch::new(7));
        base
    }

    fn check(&self, base: Offset) {
        let header = batch::verify(&self.batch.borrow()).expect("what is covered by the CRC is as before");
        assert_eq!((header.base_offset, header.epoch), (base, Epoch::new(7)));
    }
}
