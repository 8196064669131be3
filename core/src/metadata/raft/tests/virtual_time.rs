//! An executor in virtual time: one thread, many nodes, time that jumps to the next thing that is due.
//!
//! Every task belongs to a node, the one that started it or whose task did, so that a node can lose all its tasks at
//! once, as in a crash. What happens follows from the seed, as far as the code under test draws its chances here.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use heddle_log_store::MemoryDisk;

use crate::{metadata::raft::runtime::Executor, runtime::mesh::LocalFuture};

/// The harness itself, as the owner of tasks.
pub const NOBODY: u64 = 0;

type Queue = Arc<Mutex<VecDeque<u64>>>;

/// So many tasks run at one moment when they wake each other without end, and no time would ever pass.
const RUNS_AT_ONE_MOMENT_MAX: u32 = 100_000;

struct Task {
    owner: u64,
    future: LocalFuture<()>,
}

#[derive(Default)]
struct World {
    now: Duration,
    random: u64,
    sequence: u64,
    owner: u64,
    /// How many tasks have run since time moved.
    runs: u32,
    tasks: BTreeMap<u64, Task>,
    timers: BTreeMap<(Duration, u64), Waker>,
    disks: Vec<MemoryDisk>,
    ready: Queue,
    panics: Vec<(u64, String)>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(work: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(work)
}

struct TaskWaker {
    id: u64,
    ready: Queue,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().expect("one thread");
        if !ready.contains(&self.id) {
            ready.push_back(self.id);
        }
    }
}

/// Begins a new world on this thread.
pub fn begin(seed: u64) {
    let old = world(|world| std::mem::replace(world, World { random: seed, ..World::default() }));
    drop(old);
}

/// From now on the time of `disk` is that of this world.
pub fn attach(disk: &MemoryDisk) {
    world(|world| world.disks.push(disk.clone()));
}

/// Does `work` in the name of a node: the tasks that it starts are the node's.
pub fn on_behalf<T>(owner: u64, work: impl FnOnce() -> T) -> T {
    let before = world(|world| std::mem::replace(&mut world.owner, owner));
    let done = work();
    world(|world| world.owner = before);
    done
}

/// Drops every task of a node where it stands.
pub fn kill(owner: u64) {
    let dead: Vec<Task> = world(|world| {
        world.tasks.extract_if(.., |_, task| task.owner == owner).map(|(_, task)| task).collect()
    });
    on_behalf(owner, || drop(dead));
}

/// Runs everything for so long.
pub fn run_for(duration: Duration) {
    let until = world(|world| world.now) + duration;
    while step(until) {}
}

/// Runs everything until `future` is done, which must be within `limit`.
pub fn run<T: 'static>(limit: Duration, future: impl Future<Output = T> + 'static) -> Option<T> {
    let until = world(|world| world.now) + limit;
    let done = std::rc::Rc::new(RefCell::new(None));
    let result = done.clone();
    on_behalf(NOBODY, || {
        Virtual::spawn(async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
        });
    });
    while done.borrow().is_none() && step(until) {}
    done.take()
}

/// Runs one task, or moves time to what is due next; `false` when `until` is reached.
fn step(until: Duration) -> bool {
    let next = world(|world| world.ready.lock().expect("one thread").pop_front());
    match next {
        Some(id) => poll(id),
        None => return advance(until),
    }
    true
}

fn poll(id: u64) {
    // The task is out of the table while it runs, because it starts others.
    let Some(mut task) = world(|world| world.tasks.remove(&id)) else { return };
    let runs = world(|world| {
        world.runs += 1;
        world.runs
    });
    assert!(
        runs < RUNS_AT_ONE_MOMENT_MAX,
        "the tasks of node {} and others go round without end",
        task.owner
    );
    let waker = Waker::from(Arc::new(TaskWaker { id, ready: world(|world| world.ready.clone()) }));
    let polled = on_behalf(task.owner, || {
        let mut cx = Context::from_waker(&waker);
        panic::catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut cx)))
    });
    match polled {
        Ok(Poll::Pending) => drop(world(|world| world.tasks.insert(id, task))),
        Ok(Poll::Ready(())) => drop(task),
        Err(panic) if task.owner == NOBODY => panic::resume_unwind(panic),
        Err(panic) => {
            // A panic takes a node's process with it.
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            world(|world| {
                world.owner = NOBODY;
                world.panics.push((task.owner, text.unwrap_or_default()));
            });
            kill(task.owner);
        }
    }
}

/// The nodes that panicked, and what they said.
pub fn panics() -> Vec<(u64, String)> {
    world(|world| world.panics.clone())
}

fn advance(until: Duration) -> bool {
    let (now, disks, due) = world(|world| {
        let timer = world.timers.keys().next().map(|(at, _)| *at);
        let disk = world.disks.iter().filter_map(MemoryDisk::next_deadline).min();
        let before = world.now;
        world.now = timer.into_iter().chain(disk).min().unwrap_or(until).min(until).max(world.now);
        if world.now > before {
            world.runs = 0;
        }
        let later = world.timers.split_off(&(world.now + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut world.timers, later);
        (world.now, world.disks.clone(), due)
    });
    disks.iter().for_each(|disk| disk.advance_to(now));
    due.into_values().for_each(Waker::wake);
    let is_idle = world(|world| world.ready.lock().expect("one thread").is_empty());
    now < until || !is_idle
}

/// The executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Virtual;

impl Executor for Virtual {
    fn spawn(task: impl Future<Output = ()> + 'static) {
        world(|world| {
            world.sequence += 1;
            let task = Task { owner: world.owner, future: Box::pin(task) };
            world.tasks.insert(world.sequence, task);
            world.ready.lock().expect("one thread").push_back(world.sequence);
        });
    }

    fn now() -> Duration {
        world(|world| world.now)
    }

    fn sleep(duration: Duration) -> LocalFuture<()> {
        Box::pin(Sleep { at: Self::now() + duration, timer: None })
    }

    fn random() -> u64 {
        world(|world| {
            world.random = world.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = world.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }
}

struct Sleep {
    at: Duration,
    timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (at, timer) = (self.at, self.timer);
        let set = world(|world| {
            if world.now >= at {
                return None;
            }
            world.sequence += 1;
            let id = timer.unwrap_or(world.sequence);
            world.timers.insert((at, id), cx.waker().clone());
            Some(id)
        });
        self.timer = set;
        if set.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            // At the end of the thread the world goes before what is in it.
            let _gone = WORLD.try_with(|world| world.borrow_mut().timers.remove(&(self.at, id)));
        }
    }
}
