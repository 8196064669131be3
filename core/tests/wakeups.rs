//! No wake-up of a core is lost: timers too short to sleep for, and work that arrives while a core falls asleep. And none is
//! kept twice: a task that polls an I/O again and again waits for it once.
//!
//! The runtime keeps its timers in the ring over many sleeps (core/vendor/glommio/HEDDLE.md); a wake-up it loses stalls
//! a core for ever, which is what the watchdog here ends with a message instead.

use std::{
    future::{Future, poll_fn},
    process::abort,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use glommio::{LocalExecutorBuilder, Placement, channels::shared_channel, io::DmaFile, timer::sleep};

/// Far more than the slowest step takes; a lost wake-up takes for ever.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Ends the process when nobody reports progress any more.
fn watchdog(what: &'static str) -> Sender<()> {
    let (alive, told) = channel();
    thread::spawn(move || {
        loop {
            match told.recv_timeout(STEP_MAX) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("{what}: no progress for {STEP_MAX:?}: a wake-up was lost");
                    abort();
                }
            }
        }
    });
    alive
}

#[test]
fn short_timers_all_fire() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let alive = watchdog("short timers");
        let executor = LocalExecutorBuilder::new(Placement::Unbound).spin_before_park(spin);
        let run = executor.spawn(move || async move {
            for turn in 0..20_000_u64 {
                // From nothing to a few times what falling asleep takes.
                sleep(Duration::from_nanos((turn * 7919) % 40_000)).await;
                if turn % 500 == 0 {
                    let _ = alive.send(());
                }
            }
        });
        run.expect("an executor starts").join().expect("it ends");
    }
}

#[test]
fn timers_of_many_tasks_fire_in_time_order() {
    let alive = watchdog("timers of many tasks");
    let executor = LocalExecutorBuilder::new(Placement::Unbound);
    let run = executor.spawn(move || async move {
        let tasks: Vec<_> = (0..16_u64)
            .map(|task| {
                let alive = alive.clone();
                glommio::spawn_local(async move {
                    for turn in 0..500_u64 {
                        let begun = Instant::now();
                        let wait = Duration::from_micros((task * 131 + turn * 17) % 900);
                        sleep(wait).await;
                        assert!(begun.elapsed() >= wait, "a timer fired early");
                        let _ = alive.send(());
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    run.expect("an executor starts").join().expect("it ends");
}

#[test]
fn messages_wake_a_core_that_falls_asleep() {
    let alive = watchdog("messages between cores");
    let (ask, asked) = shared_channel::new_bounded::<u64>(4);
    let (answer, answered) = shared_channel::new_bounded::<u64>(4);
    let executor = || LocalExecutorBuilder::new(Placement::Unbound);
    let echo = executor().spawn(move || async move {
        let (asked, answer) = (asked.connect().await, answer.connect().await);
        while let Some(number) = asked.recv().await {
            answer.send(number).await.expect("the asker is there");
        }
    });
    let asker = executor().spawn(move || async move {
        let (ask, answered) = (ask.connect().await, answered.connect().await);
        for number in 0..10_000 {
            // A timer now and then, so that sleeps with and without one alternate.
            if number % 3 == 0 {
                sleep(Duration::from_nanos(number * 31 % 60_000)).await;
            }
            ask.send(number).await.expect("the echo is there");
            assert_eq!(answered.recv().await, Some(number));
            let _ = alive.send(());
        }
    });
    asker.expect("an executor starts").join().expect("it ends");
    echo.expect("an executor starts").join().expect("it ends");
}

#[test]
fn work_is_done_however_short_a_turn_is() {
    let alive = watchdog("turns that are over before they begin");
    // A core that the kernel takes its CPU from finds the time of its turn over before the first task ran.
    let executor = LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(Duration::from_nanos(1));
    let run = executor.spawn(move || async move {
        for turn in 0..200_u64 {
            let tasks: Vec<_> = (0..8).map(|task| glommio::spawn_local(async move { task + turn })).collect();
            for (task, work) in tasks.into_iter().enumerate() {
                assert_eq!(work.await, task as u64 + turn);
            }
            let _ = alive.send(());
        }
    });
    run.expect("an executor starts").join().expect("it ends");
}

#[test]
fn a_task_may_poll_its_io_as_often_as_it_likes() {
    // More than the references that glommio 0.9.0 can count.
    const POLLS: usize = 100_000;
    let dir = tempfile::tempdir_in(".").expect("a folder");
    let path = dir.path().join("io");
    let executor = LocalExecutorBuilder::new(Placement::Unbound);
    let run = executor.spawn(move || async move {
        let file = DmaFile::create(&path).await.expect("a file");
        let mut write = Box::pin(file.write_at(file.alloc_dma_buffer(4096), 0));
        let mut polls = 0;
        let written = poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = write.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                polls += 1;
                if polls >= POLLS {
                    return Poll::Pending;
                }
            }
        });
        assert_eq!(written.await.expect("it is written"), 4096);
        assert!(polls >= POLLS, "the write was done too early to show anything");
        drop(write);
        file.close().await.expect("it is closed");
    });
    run.expect("an executor starts").join().expect("it ends");
}
