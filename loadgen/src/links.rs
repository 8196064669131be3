//! The connections of one producer or consumer, one to each broker, made again when they break.

use crate::failure::Failure;
use crate::link::{Link, LinkError};
use crate::target::{Layout, Protocol, Target};
use ahash::AHashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Least time between two tries to connect to one broker, and between two looks at the metadata.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What this thread knows about the cluster, brought up to date when a broker says it is stale.
pub struct Metadata {
    protocol: Protocol,
    bootstrap: String,
    topics: Vec<String>,
    layout: RefCell<Rc<Layout>>,
    refreshing: Cell<bool>,
    refreshed: Cell<Option<Instant>>,
}

impl Metadata {
    /// Begins with `layout`.
    pub fn new(target: &Target, topics: Vec<String>, layout: Layout) -> Rc<Self> {
        Rc::new(Self {
            protocol: target.protocol,
            bootstrap: target.address.clone(),
            topics,
            layout: RefCell::new(Rc::new(layout)),
            refreshing: Cell::new(false),
            refreshed: Cell::new(None),
        })
    }

    /// The layout as known now.
    pub fn layout(&self) -> Rc<Layout> {
        Rc::clone(&self.layout.borrow())
    }

    /// How the brokers are spoken to.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Looks again in the background, unless that is under way or was done a moment ago.
    pub fn refresh_if(self: &Rc<Self>, failure: Failure) {
        let recently = self.refreshed.get().is_some_and(|at| at.elapsed() < RETRY_INTERVAL);
        if !failure.is_stale_route() || recently || self.refreshing.replace(true) {
            return;
        }
        let metadata = Rc::clone(self);
        glommio::spawn_local(async move {
            if let Some(layout) = metadata.ask_any().await {
                *metadata.layout.borrow_mut() = Rc::new(layout);
            }
            metadata.refreshed.set(Some(Instant::now()));
            metadata.refreshing.set(false);
        })
        .detach();
    }

    /// Asks the first broker that answers.
    async fn ask_any(&self) -> Option<Layout> {
        let known = self.layout();
        let others = known.brokers.iter().map(|(_, address)| address);
        for address in std::iter::once(&self.bootstrap).chain(others) {
            if let Ok(link) = Link::connect(self.protocol, address).await
                && let Ok(layout) = link.layout(&self.topics).await
            {
                return Some(layout);
            }
        }
        None
    }
}

#[derive(Default)]
struct Place {
    link: Option<Link>,
    connecting: bool,
    tried: Option<Instant>,
}

/// One owner's connections.
pub struct Links {
    metadata: Rc<Metadata>,
    places: RefCell<AHashMap<i32, Place>>,
}

impl Links {
    /// No connection yet.
    pub fn new(metadata: Rc<Metadata>) -> Rc<Self> {
        Rc::new(Self { metadata, places: RefCell::default() })
    }

    /// Connects to every broker that leads a partition for which `wanted` says so.
    pub async fn connect_all(&self, wanted: impl Fn(usize) -> bool) -> Result<(), LinkError> {
        let layout = self.metadata.layout();
        let mut brokers: Vec<i32> = (0..)
            .zip(&layout.routes)
            .filter(|(index, _)| wanted(*index))
            .map(|(_, route)| route.broker)
            .collect();
        brokers.sort_unstable();
        brokers.dedup();
        for broker in brokers {
            let link = self.open(broker).await?;
            self.places.borrow_mut().entry(broker).or_default().link = Some(link);
        }
        Ok(())
    }

    /// Number of brokers connected to; at least 1.
    pub fn count(&self) -> u32 {
        u32::try_from(self.places.borrow().len()).unwrap_or(u32::MAX).max(1)
    }

    /// The connection to `broker`. When it is broken this fails, and it is being made again.
    pub fn get(self: &Rc<Self>, broker: i32) -> Result<Link, Failure> {
        let mut places = self.places.borrow_mut();
        let place = places.entry(broker).or_default();
        if let Some(link) = &place.link
            && !link.is_broken()
        {
            return Ok(link.clone());
        }
        let recently = place.tried.is_some_and(|at| at.elapsed() < RETRY_INTERVAL);
        if !recently && !place.connecting {
            place.connecting = true;
            place.tried = Some(Instant::now());
            place.link = None;
            glommio::spawn_local(Rc::clone(self).reconnect(broker)).detach();
        }
        Err(Failure::Refused)
    }

    async fn reconnect(self: Rc<Self>, broker: i32) {
        let opened = self.open(broker).await;
        if let Err(error) = &opened {
            self.metadata.refresh_if(error.failure());
        }
        let mut places = self.places.borrow_mut();
        let place = places.entry(broker).or_default();
        place.connecting = false;
        place.link = opened.ok();
    }

    async fn open(&self, broker: i32) -> Result<Link, LinkError> {
        let layout = self.metadata.layout();
        let address = layout
            .address_of(broker)
            .ok_or_else(|| LinkError::Topics(format!("the metadata names no broker {broker}")))?;
        Link::connect(self.metadata.protocol, address).await
    }
}
