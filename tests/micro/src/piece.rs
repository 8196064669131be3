//! What is measured: a [`Case`] says how to do one operation, a [`Piece`] gives it a name, a size and a limit.

use std::fmt;
use std::hint::black_box;

use divan::Bencher;

use crate::allocations;

/// Operations before anything is counted, so that buffers that are kept have their size.
const WARM_UP_COUNT: usize = 20;

/// Operations over which allocations are averaged.
const COUNTED_COUNT: usize = 200;

/// Added to every limit, since a queue that is kept doubles now and then.
const DOUBLINGS: f64 = 0.1;

/// How much one operation handles.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Records of a batch, entries of a frame or of an index, replies of a send.
    pub item_count: usize,
    /// Bytes of each.
    pub item_bytes: usize,
}

/// One operation of the hot path, and how to tell that it did its work.
pub trait Case: Sized {
    /// What one operation uses up; made outside the measurement.
    type Input;
    /// What it makes; dropped outside the measurement.
    type Output;

    /// Prepares what all operations share.
    fn new(shape: Shape) -> Self;

    /// Makes the input of the next operation. Operations run in the order of their inputs.
    fn input(&self) -> Self::Input;

    /// The operation: this alone is measured.
    fn run(&self, input: Self::Input) -> Self::Output;

    /// Checks the output of the latest operation.
    ///
    /// # Panics
    /// If it is wrong.
    fn check(&self, output: Self::Output);

    /// Allocations so far on the threads that do the work.
    fn allocations(&self) -> u64 {
        allocations()
    }
}

/// A case with a name and a size.
pub struct Piece {
    name: &'static str,
    shape: Shape,
    allocations_max: u64,
    time: fn(Shape, Bencher<'_, '_>),
    repeat: fn(Shape, usize) -> u64,
    prove: fn(Shape),
}

/// How often allocations are counted in a test.
const TURNS: usize = 3;

impl Piece {
    /// A piece measured at `shape`, one operation of which makes at most `allocations_max` heap allocations on average,
    /// however many items it handles.
    pub const fn new<C: Case>(name: &'static str, shape: Shape, allocations_max: u64) -> Piece {
        Piece { name, shape, allocations_max, time: time::<C>, repeat: repeat::<C>, prove: prove::<C> }
    }

    /// Its name, the same in all reports.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Measures time, after a check that there is something to measure.
    pub fn time(&self, bencher: Bencher<'_, '_>) {
        (self.prove)(self.shape);
        (self.time)(self.shape, bencher);
    }

    /// Does `count` operations one after another, for a profiler that looks from outside.
    pub fn repeat(&self, count: usize) {
        (self.repeat)(self.shape, count);
    }

    /// Allocations of one operation on average, once everything that is kept has its size.
    pub fn allocations(&self) -> f64 {
        self.allocations_at(self.shape)
    }

    /// Checks results and allocations with tiny inputs.
    ///
    /// # Panics
    /// If a result is wrong, or an operation allocates more often than its limit.
    pub fn test(&self) {
        for (item_count, item_bytes) in [(1, 16), (3, 7), (50, 16)] {
            let shape = Shape { item_count, item_bytes };
            (self.prove)(shape);
            // What the rest of the process allocates meanwhile only adds, and goes with time: the fewest are the operation's.
            let counts = (0..TURNS).map(|_| self.allocations_at(shape));
            let allocations = counts.fold(f64::INFINITY, f64::min);
            assert!(
                allocations <= self.allocations_max as f64 + DOUBLINGS,
                "{self}: {allocations} allocations per operation with {item_count} items, at most {} are expected",
                self.allocations_max
            );
        }
    }

    fn allocations_at(&self, shape: Shape) -> f64 {
        (self.repeat)(shape, COUNTED_COUNT) as f64 / COUNTED_COUNT as f64
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// One operation, in a function of its own so that a profiler can tell it from what surrounds it.
#[inline(never)]
fn measured<C: Case>(case: &C, input: C::Input) -> C::Output {
    black_box(case.run(black_box(input)))
}

fn prove<C: Case>(shape: Shape) {
    let case = C::new(shape);
    for _ in 0..3 {
        case.check(measured(&case, case.input()));
    }
}

fn time<C: Case>(shape: Shape, bencher: Bencher<'_, '_>) {
    let case = C::new(shape);
    bencher.with_inputs(|| case.input()).bench_local_values(|input| measured(&case, input));
}

/// Returns how often the operations allocated, those of the warm-up not counted.
fn repeat<C: Case>(shape: Shape, count: usize) -> u64 {
    let case = C::new(shape);
    for _ in 0..WARM_UP_COUNT {
        measured(&case, case.input());
    }
    let mut allocated = 0;
    for _ in 0..count {
        let input = case.input();
        let before = case.allocations();
        let output = measured(&case, input);
        allocated += case.allocations() - before;
        drop(output);
    }
    allocated
}
