//! The one writer of the metadata: it runs on core 0, gathers proposals, and lets no answer out before the change is
//! durable and every core of the node works by it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use heddle_log_store::Disk;

use super::{
    command::{Command, MetadataError, Outcome},
    image::ClusterImage,
    log::{MetadataLog, MetadataLogError},
};
use crate::runtime::{
    event::Event,
    mesh::LocalFuture,
    oneshot::{Sender, oneshot},
};

/// Proposals that may wait; beyond it new ones are refused.
const WAITING_MAX: usize = 10_000;

/// How many proposals share one write.
const BATCH_COUNT_MAX: usize = 256;

/// How a new image reaches every core.
pub type Publish = Rc<dyn Fn(Arc<ClusterImage>) -> LocalFuture<()>>;

type Answer = Sender<Result<Outcome, MetadataError>>;

/// Takes proposals; [`MetadataService::run`] works them off.
pub struct MetadataService<D: Disk> {
    log: Cell<Option<MetadataLog<D>>>,
    image: RefCell<Arc<ClusterImage>>,
    waiting: RefCell<Vec<(Command, Answer)>>,
    wake: RefCell<Rc<Event>>,
    closing: Cell<bool>,
}

impl<D: Disk> MetadataService<D> {
    /// Takes over an opened log.
    pub fn new(log: MetadataLog<D>, image: ClusterImage) -> Rc<Self> {
        Rc::new(MetadataService {
            log: Cell::new(Some(log)),
            image: RefCell::new(Arc::new(image)),
            waiting: RefCell::default(),
            wake: RefCell::new(Event::new()),
            closing: Cell::new(false),
        })
    }

    /// The newest durable image.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.borrow().clone()
    }

    /// Proposes a change and waits for its outcome.
    ///
    /// # Errors
    /// When it was refused; nothing changed then.
    pub async fn submit(&self, command: Command) -> Result<Outcome, MetadataError> {
        if self.closing.get() || self.waiting.borrow().len() >= WAITING_MAX {
            return Err(MetadataError::Closing);
        }
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().push((command, sender));
        self.wake.borrow().fire();
        receiver.await.unwrap_or(Err(MetadataError::Closing))
    }

    /// Commits changes before [`MetadataService::run`] does so: the first ones of a start.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub async fn commit(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Result<Outcome, MetadataError>>, MetadataLogError> {
        let mut log = self.log.take().expect("boot and the loop never commit at the same time");
        let mut image = (*self.image()).clone();
        let outcomes = log.commit(&mut image, commands).await;
        self.log.set(Some(log));
        *self.image.borrow_mut() = Arc::new(image);
        outcomes
    }

    /// Works proposals off until [`MetadataService::close`]. Spawned once, in the control queue.
    ///
    /// # Errors
    /// When the log cannot be written: the process must stop.
    pub async fn run(&self, publish: Publish) -> Result<(), MetadataLogError> {
        loop {
            let event = self.wake.borrow().clone();
            event.wait().await;
            *self.wake.borrow_mut() = Event::new();
            if self.closing.get() {
                self.waiting.take();
                return Ok(());
            }
            while !self.waiting.borrow().is_empty() {
                self.work_off(&publish).await?;
            }
        }
    }

    async fn work_off(&self, publish: &Publish) -> Result<(), MetadataLogError> {
        let (commands, answers): (Vec<Command>, Vec<Answer>) = {
            let mut waiting = self.waiting.borrow_mut();
            let count = waiting.len().min(BATCH_COUNT_MAX);
            waiting.drain(..count).unzip()
        };
        let before = self.image().index;
        let outcomes = self.commit(commands).await?;
        let image = self.image();
        if image.index != before {
            publish(image).await;
        }
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            answer.send(outcome);
        }
        Ok(())
    }

    /// Takes no more proposals and ends [`MetadataService::run`].
    pub fn close(&self) {
        self.closing.set(true);
        self.wake.borrow().fire();
    }
}
