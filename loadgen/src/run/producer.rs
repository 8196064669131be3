//! One producer: follows its schedule, sends batches to the brokers that lead its partitions, notes the answers.

use super::thread::Thread;
use crate::batch_pool::Stamped;
use crate::clock::Nanos;
use crate::failure::Failure;
use crate::links::Links;
use crate::schedule::{Pace, Producer, Schedule, Step};
use crate::signal::Notify;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long a closed loop waits when it has no connection, rather than failing millions of times.
const NO_CONNECTION_WAIT: Duration = Duration::from_millis(10);

struct State {
    thread: Rc<Thread>,
    links: Rc<Links>,
    index: u32,
    pace: Pace,
    in_flight: Cell<u32>,
    answered: Notify,
}

/// Runs producer `index` to its end. `links` are its own connections.
pub async fn run(thread: Rc<Thread>, links: Rc<Links>, index: u32) {
    let pace = pace_of(&thread, index);
    let window = thread.config.in_flight_max.saturating_mul(links.count());
    let give_up = thread.window.to.plus(thread.config.drain);
    let mut plan = Producer::new(pace, thread.config.batch_rule(), window, thread.window.to, give_up);
    let state =
        Rc::new(State { thread, links, index, pace, in_flight: Cell::new(0), answered: Notify::default() });
    state.thread.pace(state.thread.start).await;
    let partition_count = state.thread.metadata.layout().routes.len();
    let mut turn = first_turn(index, state.thread.config.producers, partition_count);
    while !state.thread.stop.is_raised() {
        let now = state.thread.clock.now();
        match plan.step(now, state.in_flight.get()) {
            Step::Send { first, count } => {
                let sent = state.send(&plan, turn, first, count, now);
                turn += 1;
                if !sent && matches!(pace, Pace::Closed) {
                    glommio::timer::sleep(NO_CONNECTION_WAIT).await;
                }
            }
            Step::WaitUntil(then) => state.thread.pace(then).await,
            Step::WindowFull => state.wait_for_answer(give_up).await,
            Step::Done => break,
        }
    }
    state.thread.recorder.borrow_mut().unsent(plan.unsent_count());
    state.drain(give_up).await;
}

/// Producers begin evenly spread over the partitions, so that together they meet all of them alike and soon.
fn first_turn(producer: u32, producer_count: u32, partition_count: usize) -> usize {
    producer as usize * partition_count / producer_count as usize
}

fn pace_of(thread: &Thread, index: u32) -> Pace {
    let (rate, producers) = (thread.config.rate, thread.config.producers);
    match rate {
        0 => Pace::Closed,
        rate => Pace::Open(Schedule::new(thread.start, rate, u64::from(index), u64::from(producers))),
    }
}

impl State {
    /// Sends one batch; `false` when there was no connection for it.
    fn send(self: &Rc<Self>, plan: &Producer, turn: usize, first: u64, count: u32, now: Nanos) -> bool {
        let layout = self.thread.metadata.layout();
        let route = &layout.routes[turn % layout.routes.len()];
        let link = match self.links.get(route.broker) {
            Ok(link) => link,
            Err(failure) => {
                self.fail(failure);
                return false;
            }
        };
        let intended = |index: u32| plan.intended(first + u64::from(index), now);
        let stamped = self.thread.pool.borrow_mut().stamp(count, self.thread.run_tag, self.index, intended);
        let stamped = stamped.expect("the configuration keeps batches below the protocol's limit");
        self.thread.recorder.borrow_mut().sent(count, intended(count - 1), self.thread.clock.now());
        self.in_flight.set(self.in_flight.get() + 1);
        let answer = link.produce(route, self.thread.config.acks, stamped.bytes.clone());
        let state = Rc::clone(self);
        glommio::spawn_local(async move {
            let outcome = answer.await;
            state.on_answer(outcome, stamped, first, count, now);
        })
        .detach();
        true
    }

    fn on_answer(
        &self,
        outcome: Result<i64, Failure>,
        stamped: Stamped,
        first: u64,
        count: u32,
        sent: Nanos,
    ) {
        let now = self.thread.clock.now();
        match outcome {
            Ok(_) => {
                let intended = (0..count).map(|index| self.intended(first + u64::from(index), sent));
                self.thread.recorder.borrow_mut().acked(stamped.bytes.len(), now, intended);
            }
            Err(failure) => self.fail(failure),
        }
        self.thread.pool.borrow_mut().give_back(stamped);
        self.in_flight.set(self.in_flight.get() - 1);
        self.answered.raise();
    }

    fn intended(&self, index: u64, sent: Nanos) -> Nanos {
        match &self.pace {
            Pace::Open(schedule) => schedule.intended(index),
            Pace::Closed => sent,
        }
    }

    fn fail(&self, failure: Failure) {
        self.thread.recorder.borrow_mut().failed(failure);
        self.thread.metadata.refresh_if(failure);
    }

    /// Waits for the next answer, but not beyond `deadline`.
    async fn wait_for_answer(&self, deadline: Nanos) {
        let left = deadline.left(self.thread.clock.now());
        let answer = async { self.answered.wait().await };
        futures_lite::future::or(answer, async { glommio::timer::sleep(left).await }).await;
    }

    /// Waits for what is unanswered; what is so at `deadline` has failed.
    async fn drain(&self, deadline: Nanos) {
        while self.in_flight.get() > 0 && self.thread.clock.now() < deadline {
            self.wait_for_answer(deadline).await;
        }
        for _ in 0..self.in_flight.get() {
            self.thread.recorder.borrow_mut().failed(Failure::Timeout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_begin_evenly_spread() {
        let firsts = |producers, partitions| -> Vec<usize> {
            (0..producers).map(|producer| first_turn(producer, producers, partitions)).collect()
        };
        assert_eq!(firsts(4, 1000), [0, 250, 500, 750]);
        assert_eq!(firsts(3, 16), [0, 5, 10]);
        assert_eq!(firsts(4, 2), [0, 0, 1, 1]);
        assert_eq!(firsts(2, 1), [0, 0]);
    }
}
