//! Fetch sessions (KIP-227): a client that fetches many partitions says once which, and then only what changes.
//!
//! Lives on the core that the session was opened on. Nothing of it survives a restart: the client is told that the session
//! is gone and opens a new one. Bounded by [`SESSION_COUNT_MAX`] and [`PARTITION_COUNT_MAX`].

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use heddle_net::kafka::{
    FetchRequest, StrBytes, TopicRef,
    fetch::{FetchPartition, FetchTopic, ForgottenTopic},
};
use heddle_proto::{error::ErrorCode, ids::Offset};

use crate::{
    partition::fetch::Fetched,
    shard::{fetch_set::FetchSet, request::FetchFrom},
};

/// Sessions on one core, at most: Kafka's `max.incremental.fetch.session.cache.slots`.
pub const SESSION_COUNT_MAX: usize = 1000;

/// Partitions in all sessions of one core, at most. Each takes some 300 bytes, so that is 60 MiB at worst.
pub const PARTITION_COUNT_MAX: usize = 200_000;

/// A session that was not used for so long makes room for a new one; Kafka's `min.incremental.fetch.session.eviction.ms`.
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// What a client says of its session.
const EPOCH_INITIAL: i32 = 0;
const EPOCH_FINAL: i32 = -1;

/// One partition of a session.
struct Part {
    topic: u32,
    index: i32,
    asked: FetchPartition,
    /// What the client was told last: the high watermark and the first offset.
    told: Option<(Offset, Offset)>,
}

/// A topic of a session, and how many of its partitions are in it.
struct Topic {
    name: TopicRef,
    parts: AHashMap<i32, u32>,
}

#[derive(Default)]
struct Parts {
    topics: AHashMap<u32, Topic>,
    topic_ids: AHashMap<TopicRef, u32>,
    parts: AHashMap<u32, Part>,
    next: u32,
}

/// One session.
pub struct Session {
    id: i32,
    by_id: bool,
    epoch: Cell<i32>,
    opened: Instant,
    used: Cell<Instant>,
    parts: RefCell<Parts>,
    /// Slots whose partition is to be found anew: what the client wants of it changed, or it could not be read.
    touched: RefCell<Vec<u32>>,
    /// What is looked at, by slot.
    pub set: RefCell<FetchSet>,
}

/// What one request of a session is about.
pub struct Turn {
    /// The session.
    pub session: Rc<Session>,
    /// The epoch that its next request must have, unless another request comes in between.
    epoch: i32,
    /// Whether the reply tells of all partitions.
    pub is_full: bool,
}

/// How a request is to be answered.
pub enum Answer {
    /// Without a session.
    Alone,
    /// In a session.
    In(Turn),
    /// Not at all.
    Refused(ErrorCode),
}

/// The sessions of one core.
#[derive(Default)]
pub struct Sessions {
    open: RefCell<AHashMap<i32, Rc<Session>>>,
    partition_count: Cell<usize>,
    evicted_count: Cell<u64>,
}

impl Sessions {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.borrow().len()
    }

    /// How many partitions they have.
    pub fn partition_count(&self) -> usize {
        self.partition_count.get()
    }

    /// How many had to make room for others.
    pub fn evicted_count(&self) -> u64 {
        self.evicted_count.get()
    }

    /// Finds out how a request is to be answered, and takes over what it changes of its session. `draw` gives random
    /// numbers for ids.
    pub fn begin(
        &self,
        request: &FetchRequest,
        by_id: bool,
        now: Instant,
        draw: impl FnMut() -> i32,
    ) -> Answer {
        match (request.session_id, request.session_epoch) {
            (id, EPOCH_FINAL) => {
                self.close(id);
                Answer::Alone
            }
            (id, EPOCH_INITIAL) => {
                self.close(id);
                self.open(request, by_id, now, draw)
            }
            (id, epoch) => self.go_on(id, epoch, request, by_id, now),
        }
    }

    fn close(&self, id: i32) {
        if let Some(session) = self.open.borrow_mut().remove(&id) {
            let count = session.parts.borrow().parts.len();
            self.partition_count.set(self.partition_count.get() - count);
        }
    }

    fn open(
        &self,
        request: &FetchRequest,
        by_id: bool,
        now: Instant,
        mut draw: impl FnMut() -> i32,
    ) -> Answer {
        let count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        if count == 0 || !self.make_room(count, now) {
            return Answer::Alone;
        }
        let id = loop {
            let id = draw();
            if id > 0 && !self.open.borrow().contains_key(&id) {
                break id;
            }
        };
        let session = Rc::new(Session {
            id,
            by_id,
            epoch: Cell::new(1),
            opened: now,
            used: Cell::new(now),
            parts: RefCell::default(),
            touched: RefCell::default(),
            set: RefCell::default(),
        });
        session.put(&request.topics);
        self.partition_count.set(self.partition_count.get() + session.parts.borrow().parts.len());
        self.open.borrow_mut().insert(id, session.clone());
        Answer::In(Turn { session, epoch: 1, is_full: true })
    }

    fn go_on(&self, id: i32, epoch: i32, request: &FetchRequest, by_id: bool, now: Instant) -> Answer {
        let Some(session) = self.open.borrow().get(&id).cloned() else {
            return Answer::Refused(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch.get() != epoch {
            return Answer::Refused(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Answer::Refused(ErrorCode::FetchSessionTopicIdError);
        }
        let before = session.parts.borrow().parts.len();
        session.put(&request.topics);
        session.forget(&request.forgotten);
        let after = session.parts.borrow().parts.len();
        self.partition_count.set(self.partition_count.get() + after - before);
        session.used.set(now);
        if after == 0 {
            self.close(id);
            return Answer::Alone;
        }
        if self.partition_count.get() > PARTITION_COUNT_MAX {
            self.close(id);
            return Answer::Refused(ErrorCode::FetchSessionIdNotFound);
        }
        session.epoch.set(next_epoch(epoch));
        // A request of the session that still waits ends: its epoch is over.
        session.set.borrow().watch().call();
        Answer::In(Turn { epoch: session.epoch.get(), session, is_full: false })
    }

    /// Whether a session of so many partitions may be opened, after others made room if need be: those that were not used
    /// for long, or those that are smaller and have been there for long.
    fn make_room(&self, count: usize, now: Instant) -> bool {
        loop {
            let fits = self.partition_count.get() + count <= PARTITION_COUNT_MAX;
            if fits && self.count() < SESSION_COUNT_MAX {
                return true;
            }
            let victim = {
                let open = self.open.borrow();
                let is_old = |since: Instant| now.saturating_duration_since(since) > EVICTION_AGE;
                let unused = open.values().filter(|session| is_old(session.used.get()));
                let smaller = open
                    .values()
                    .filter(|session| is_old(session.opened) && session.parts.borrow().parts.len() < count);
                let victim = unused
                    .min_by_key(|session| session.used.get())
                    .or_else(|| smaller.min_by_key(|session| session.parts.borrow().parts.len()));
                victim.map(|session| session.id)
            };
            let Some(id) = victim else { return false };
            self.close(id);
            self.evicted_count.set(self.evicted_count.get() + 1);
        }
    }
}

/// After the largest epoch comes 1: 0 and below mean something else.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

impl Turn {
    /// The id to tell the client.
    pub fn session_id(&self) -> i32 {
        self.session.id
    }

    /// Whether no later request of the session came meanwhile.
    pub fn is_current(&self) -> bool {
        self.session.epoch.get() == self.epoch
    }
}

impl Session {
    /// Takes over what is asked: partitions that are new come behind the others.
    fn put(&self, topics: &[FetchTopic]) {
        let (mut parts, mut touched) = (self.parts.borrow_mut(), self.touched.borrow_mut());
        for topic in topics {
            for asked in &topic.partitions {
                touched.push(parts.put(&topic.topic, *asked));
            }
        }
    }

    fn forget(&self, forgotten: &[ForgottenTopic]) {
        let (mut parts, mut set) = (self.parts.borrow_mut(), self.set.borrow_mut());
        for topic in forgotten {
            for index in &topic.partitions {
                if let Some(slot) = parts.remove(&topic.topic, *index) {
                    set.remove(slot);
                }
            }
        }
    }

    /// Puts the partitions whose place must be found anew into the set, where `find` says they are.
    pub fn refresh(&self, find: impl Fn(&TopicRef, &FetchPartition) -> FetchFrom) {
        let (parts, mut set) = (self.parts.borrow(), self.set.borrow_mut());
        for slot in self.touched.take() {
            if let Some(part) = parts.parts.get(&slot) {
                set.put(slot, find(&parts.topics[&part.topic].name, &part.asked));
            }
        }
    }

    /// The topic and number of a slot.
    pub fn part(&self, slot: u32) -> Option<(TopicRef, i32)> {
        let parts = self.parts.borrow();
        let part = parts.parts.get(&slot)?;
        Some((parts.topics[&part.topic].name.clone(), part.index))
    }

    /// Whether the client must be told what was found: records, an error, or positions that it does not know. Takes it that
    /// it is told then.
    pub fn must_tell(&self, slot: u32, found: Option<&Fetched>) -> bool {
        let mut parts = self.parts.borrow_mut();
        let Some(part) = parts.parts.get_mut(&slot) else { return false };
        // What was an error is told again when it is none any more.
        let now = found.map(|fetched| (fetched.committed, fetched.start));
        if found.is_none() {
            self.touched.borrow_mut().push(slot);
        }
        let changed = std::mem::replace(&mut part.told, now) != now;
        let has_more =
            found.is_none_or(|it| !it.batches.is_empty() || it.diverging.is_some() || it.nearer.is_some());
        changed || has_more
    }
}

impl Parts {
    fn put(&mut self, topic: &TopicRef, asked: FetchPartition) -> u32 {
        let topic_id = match self.topic_ids.get(topic) {
            Some(id) => *id,
            None => {
                let id = self.next;
                self.next = self.next.wrapping_add(1);
                let name = own(topic);
                self.topic_ids.insert(name.clone(), id);
                self.topics.insert(id, Topic { name, parts: AHashMap::new() });
                id
            }
        };
        let known = self.topics.get_mut(&topic_id).expect("it was found or made");
        if let Some(slot) = known.parts.get(&asked.index) {
            self.parts.get_mut(slot).expect("a topic's slots are there").asked = asked;
            return *slot;
        }
        let slot = self.next;
        self.next = self.next.wrapping_add(1);
        known.parts.insert(asked.index, slot);
        self.parts.insert(slot, Part { topic: topic_id, index: asked.index, asked, told: None });
        slot
    }

    fn remove(&mut self, topic: &TopicRef, index: i32) -> Option<u32> {
        let topic_id = *self.topic_ids.get(topic)?;
        let known = self.topics.get_mut(&topic_id)?;
        let slot = known.parts.remove(&index)?;
        if known.parts.is_empty() {
            self.topics.remove(&topic_id);
            self.topic_ids.remove(topic);
        }
        self.parts.remove(&slot);
        Some(slot)
    }
}

/// A copy of a name that does not keep the frame it came in.
fn own(topic: &TopicRef) -> TopicRef {
    match topic {
        TopicRef::Name(name) => TopicRef::Name(StrBytes::from_string(name.to_string())),
        TopicRef::Id(id) => TopicRef::Id(*id),
    }
}

#[cfg(test)]
mod tests {
    use heddle_proto::ids::TopicId;

    use super::*;

    fn request(id: i32, epoch: i32, partitions: std::ops::Range<i32>, forgotten: &[i32]) -> FetchRequest {
        let topic = TopicRef::from("t");
        let partitions = partitions.map(|index| FetchPartition {
            index,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            bytes_max: 100,
        });
        FetchRequest {
            replica_id: -1,
            wait_max_ms: 0,
            bytes_min: 1,
            bytes_max: 100,
            isolation_level: 0,
            session_id: id,
            session_epoch: epoch,
            topics: vec![FetchTopic { topic: topic.clone(), partitions: partitions.collect() }],
            forgotten: vec![ForgottenTopic { topic, partitions: forgotten.to_vec() }],
            rack_id: StrBytes::new(),
        }
    }

    struct Core {
        sessions: Sessions,
        now: Instant,
        drawn: Cell<i32>,
    }

    impl Core {
        fn new() -> Core {
            Core { sessions: Sessions::default(), now: Instant::now(), drawn: Cell::new(0) }
        }

        fn begin(&self, request: &FetchRequest) -> Answer {
            self.begin_as(request, false)
        }

        fn begin_as(&self, request: &FetchRequest, by_id: bool) -> Answer {
            let draw = || {
                self.drawn.set(self.drawn.get() + 1);
                self.drawn.get()
            };
            self.sessions.begin(request, by_id, self.now, draw)
        }

        fn open(&self, partition_count: i32) -> Turn {
            match self.begin(&request(0, 0, 0..partition_count, &[])) {
                Answer::In(turn) => turn,
                _ => panic!("no session is opened"),
            }
        }
    }

    fn refusal(answer: &Answer) -> Option<ErrorCode> {
        match answer {
            Answer::Refused(code) => Some(*code),
            _ => None,
        }
    }

    #[test]
    fn a_session_goes_on_by_its_epochs() {
        let core = Core::new();
        let first = core.open(3);
        assert!(first.is_full && first.is_current());
        let id = first.session_id();
        let Answer::In(second) = core.begin(&request(id, 1, 3..5, &[0])) else { panic!("goes on") };
        assert!(!second.is_full && second.is_current() && !first.is_current());
        assert_eq!(core.sessions.partition_count(), 4);
        let wrong = [
            (request(id, 1, 0..1, &[]), false, ErrorCode::InvalidFetchSessionEpoch),
            (request(id, 3, 0..1, &[]), false, ErrorCode::InvalidFetchSessionEpoch),
            (request(id + 1, 1, 0..1, &[]), false, ErrorCode::FetchSessionIdNotFound),
            (request(0, 5, 0..1, &[]), false, ErrorCode::FetchSessionIdNotFound),
            (request(id, 2, 0..1, &[]), true, ErrorCode::FetchSessionTopicIdError),
        ];
        for (request, by_id, code) in wrong {
            assert_eq!(refusal(&core.begin_as(&request, by_id)), Some(code));
        }
        assert!(second.is_current(), "what is refused changes nothing");
        assert!(matches!(core.begin(&request(id, -1, 0..1, &[])), Answer::Alone));
        assert_eq!((core.sessions.count(), core.sessions.partition_count()), (0, 0));
    }

    #[test]
    fn the_epoch_after_the_last_is_one() {
        assert_eq!([next_epoch(1), next_epoch(i32::MAX - 1), next_epoch(i32::MAX)], [2, i32::MAX, 1]);
    }

    #[test]
    fn a_session_without_partitions_is_closed() {
        let core = Core::new();
        let id = core.open(2).session_id();
        assert!(matches!(core.begin(&request(id, 1, 0..0, &[0, 1, 7])), Answer::Alone));
        assert_eq!((core.sessions.count(), core.sessions.partition_count()), (0, 0));
    }

    #[test]
    fn sessions_make_room_only_when_they_are_old() {
        let mut core = Core::new();
        let ids: Vec<i32> = (0..SESSION_COUNT_MAX).map(|_| core.open(2).session_id()).collect();
        assert!(matches!(core.begin(&request(0, 0, 0..5, &[])), Answer::Alone), "all are in use");
        core.now += EVICTION_AGE + Duration::from_secs(1);
        for id in &ids[1..] {
            assert!(matches!(core.begin(&request(*id, 1, 0..0, &[])), Answer::In(_)));
        }
        core.open(1);
        assert_eq!(
            refusal(&core.begin(&request(ids[0], 1, 0..0, &[]))),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert!(matches!(core.begin(&request(0, 0, 0..2, &[])), Answer::Alone), "it is not larger");
        core.open(3);
        assert_eq!((core.sessions.count(), core.sessions.evicted_count()), (SESSION_COUNT_MAX, 2));
    }

    #[test]
    fn partitions_are_bounded_over_all_sessions() {
        let core = Core::new();
        let each = 50_000;
        let ids: Vec<i32> = (0..4).map(|_| core.open(each).session_id()).collect();
        assert_eq!(core.sessions.partition_count(), PARTITION_COUNT_MAX);
        assert!(matches!(core.begin(&request(0, 0, 0..1, &[])), Answer::Alone));
        let grown = core.begin(&request(ids[0], 1, each..each + 1, &[]));
        assert_eq!(refusal(&grown), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(core.sessions.partition_count(), PARTITION_COUNT_MAX - each as usize);
    }

    #[test]
    fn only_news_is_told() {
        let core = Core::new();
        let session = core.open(1).session;
        let found = |committed, start, bytes: &'static [u8]| Fetched {
            committed: Offset::new(committed),
            start: Offset::new(start),
            stable: Offset::new(committed),
            aborted: Vec::new(),
            batches: if bytes.is_empty() { vec![] } else { vec![bytes::Bytes::from_static(bytes)] },
            diverging: None,
            nearer: None,
        };
        let (slot, _) = session.parts.borrow().parts.iter().next().map(|(s, p)| (*s, p.index)).expect("one");
        let tell = |fetched: &Fetched| session.must_tell(slot, Some(fetched));
        assert!(tell(&found(5, 0, b"")), "nothing was told yet");
        assert!(!tell(&found(5, 0, b"")));
        assert!(tell(&found(5, 0, b"x")), "records are always told");
        assert!(tell(&found(6, 0, b"")) && tell(&found(6, 2, b"")));
        assert!(session.must_tell(slot, None) && session.must_tell(slot, None), "errors are always told");
        assert!(tell(&found(6, 2, b"")), "that it is no error any more is told");
        assert!(!tell(&found(6, 2, b"")));
    }

    #[test]
    fn a_name_does_not_keep_its_frame() {
        let core = Core::new();
        let frame = bytes::Bytes::from(vec![b'n'; 1 << 16]);
        let mut asked = request(0, 0, 0..1, &[]);
        let name = StrBytes::from_utf8(frame.slice(0..3)).expect("is text");
        asked.topics[0].topic = TopicRef::Name(name);
        let Answer::In(_turn) = core.begin(&asked) else { panic!("opens") };
        drop(asked);
        assert!(frame.is_unique(), "the session holds on to the request");
        assert_eq!(own(&TopicRef::Id(TopicId::ZERO)), TopicRef::Id(TopicId::ZERO));
    }
}
