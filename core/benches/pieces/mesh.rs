//! A message from one core to another and back, over the executors and queues of the broker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use heddle_core::config::machine::usable_cpus;
use heddle_core::runtime::executors::{self, Core, ExecutorOptions};
use heddle_core::runtime::mesh::{Answer, Mesh, MeshEnds, full_mesh};
use heddle_core::runtime::{Queue, Queues, event::Event};
use heddle_micro::{Case, Shape, allocations};
use heddle_proto::CoreId;

/// As the broker's own default (`spin_us`).
const OPTIONS: ExecutorOptions =
    ExecutorOptions { spin: Duration::from_micros(20), io_memory_bytes: 64 << 10 };

const ASKED: CoreId = CoreId::new(1);

/// Questions of one operation: handing a job to a core costs as much as a few of them.
const HOP_COUNT: u64 = 100;

/// What one core says to the other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Message {
    /// Asked: a number. Replied: the next one.
    Number(u64),
    /// Asked and replied: how often the asked core has allocated.
    Allocations(u64),
    /// No more is asked.
    Stop,
}

/// What the first core is to do.
enum Job {
    /// Ask, one question after another.
    InTurn,
    /// Ask everything, then wait for all replies.
    AtOnce,
    /// Tell how often both cores have allocated.
    Count,
}

/// Two cores; the first one does jobs and blocks its thread in between, which nothing else needs.
struct Pair {
    jobs: Option<Sender<Job>>,
    done: Receiver<u64>,
    cores: RefCell<Vec<Core<()>>>,
}

impl Pair {
    fn start() -> Pair {
        let (jobs, jobs_in) = channel();
        let (done_out, done) = channel();
        let cpus = usable_cpus();
        let mut ends = full_mesh::<Message, Message>(2);
        let (asked, asking) = (ends.remove(1), ends.remove(0));
        let second = executors::start(1, cpus[1 % cpus.len()], OPTIONS, move || answer(asked));
        let first = executors::start(0, cpus[0], OPTIONS, move || ask(asking, jobs_in, done_out));
        let cores = [first, second].map(|core| core.expect("this machine runs executors"));
        Pair { jobs: Some(jobs), done, cores: RefCell::new(cores.into()) }
    }

    fn run(&self, job: Job) -> u64 {
        self.jobs.as_ref().expect("it is taken at the end only").send(job).expect("the core lives");
        self.done.recv().expect("the core lives")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.jobs = None;
        self.cores.take().into_iter().for_each(|core| core.join().expect("the core ends well"));
    }
}

async fn answer(ends: MeshEnds<Message, Message>) {
    let mesh = ends.connect().await;
    let stop = Event::new();
    let stopped = stop.clone();
    mesh.serve(
        Queues::create(),
        Rc::new(move |_, message| match message {
            // As a produce request is answered: by a task of its own.
            Message::Number(number) => Answer::Later(Box::pin(async move { Message::Number(number + 1) })),
            Message::Allocations(_) => Answer::Now(Message::Allocations(allocations())),
            Message::Stop => {
                stop.fire();
                Answer::Now(Message::Stop)
            }
        }),
    );
    stopped.wait().await;
    // The reply to `Stop` is on its way before this core's queues close.
    heddle_core::runtime::time::sleep(Duration::from_millis(1)).await;
}

async fn ask(ends: MeshEnds<Message, Message>, jobs: Receiver<Job>, done: Sender<u64>) {
    let mesh = Rc::new(ends.connect().await);
    let queues = Queues::create();
    mesh.serve(queues, Rc::new(|_, message| Answer::Now(message)));
    let ended = Event::new();
    let ends = ended.clone();
    queues.spawn(Queue::Hot, async move {
        while let Ok(job) = jobs.recv() {
            let result = do_job(&mesh, job).await;
            done.send(result).expect("the caller waits for it");
        }
        let _ = mesh.ask(ASKED, Message::Stop).await;
        ends.fire();
    });
    ended.wait().await;
}

/// Returns a number that is wrong unless every reply was right.
async fn do_job(mesh: &Mesh<Message, Message>, job: Job) -> u64 {
    let number = |reply| match reply {
        Message::Number(number) => number,
        other => panic!("{other:?} answers no number"),
    };
    match job {
        Job::InTurn => {
            let mut last = 0;
            for _ in 0..HOP_COUNT {
                last = number(mesh.ask(ASKED, Message::Number(last)).await.expect("the other core lives"));
            }
            last
        }
        Job::AtOnce => {
            let mut under_way = Vec::with_capacity(HOP_COUNT as usize);
            for index in 0..HOP_COUNT {
                under_way.push(mesh.call(ASKED, Message::Number(index)).await.expect("the other core lives"));
            }
            let mut sum = 0;
            for reply in under_way {
                sum += number(reply.await.expect("the other core lives"));
            }
            sum
        }
        Job::Count => match mesh.ask(ASKED, Message::Allocations(0)).await {
            Ok(Message::Allocations(others)) => others + allocations(),
            other => panic!("{other:?} is no count"),
        },
    }
}

/// A hundred questions, one after another.
pub struct InTurn(Pair);

/// A hundred questions at once.
pub struct AtOnce(Pair);

impl Case for InTurn {
    type Input = ();
    type Output = u64;

    fn new(_: Shape) -> Self {
        InTurn(Pair::start())
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> u64 {
        self.0.run(Job::InTurn)
    }

    fn check(&self, last: u64) {
        assert_eq!(last, HOP_COUNT);
    }

    fn allocations(&self) -> u64 {
        self.0.run(Job::Count)
    }
}

impl Case for AtOnce {
    type Input = ();
    type Output = u64;

    fn new(_: Shape) -> Self {
        AtOnce(Pair::start())
    }

    fn input(&self) {}

    fn run(&self, (): ()) -> u64 {
        self.0.run(Job::AtOnce)
    }

    fn check(&self, sum: u64) {
        assert_eq!(sum, (1..=HOP_COUNT).sum::<u64>());
    }

    fn allocations(&self) -> u64 {
        self.0.run(Job::Count)
    }
}
