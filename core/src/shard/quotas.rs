//! What users and clients used of what they may, and for how long they are held back.
//!
//! Every quota holds for one broker, as in Kafka. With a port for each core a broker is a core, so a core counts what it
//! serves itself. With one port for the node the broker is the node: what a client uses is counted on one core, chosen by
//! the hash of whom the quota counts together, and the core that serves the client asks there. So no rate is divided
//! between cores, nothing is shared, and whoever has no quota pays one test.
//!
//! Counted is by a bucket that runs out at the rate of the quota and holds what may be used in one second.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use ahash::AHashMap;
use heddle_log_store::Disk;
use heddle_proto::ids::CoreId;

use super::{
    Shard,
    request::{CoreReply, CoreRequest},
};
use crate::{
    config::PortMode,
    metadata::quota::{Limited, Quotas},
    runtime::{event::Event, time},
};

/// Who sends requests while nobody has to say who he is: Kafka's name for that.
const ANONYMOUS: &str = "ANONYMOUS";

/// How much may be used at once: what the rate gives in this time.
const BURST: Duration = Duration::from_secs(1);

/// The longest a client is held back by one reply; what it still owes then is counted on.
const THROTTLE_MAX: Duration = Duration::from_secs(30);

/// Buckets on one core, at most. Empty ones are dropped before; beyond it, users and clients share one.
const BUCKET_COUNT_MAX: usize = 1 << 16;

/// One use of something limited, ready to be counted where the bucket is.
#[derive(Clone, Copy, Debug)]
pub struct Charge {
    /// Names the bucket: a hash of what is limited and of whom the quota counts together.
    bucket: u64,
    /// What may be used a second.
    rate: f64,
    /// What was used.
    amount: f64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    level: f64,
    at: Instant,
    rate: f64,
}

impl Bucket {
    fn level_at(&self, now: Instant) -> f64 {
        (self.level - self.rate * now.saturating_duration_since(self.at).as_secs_f64()).max(0.0)
    }
}

/// The quotas of one core.
#[derive(Default)]
pub struct QuotaState {
    table: RefCell<Arc<Quotas>>,
    is_set: Cell<bool>,
    buckets: RefCell<AHashMap<u64, Bucket>>,
}

impl QuotaState {
    /// Takes over what the cluster agreed on.
    pub fn apply(&self, table: &Arc<Quotas>) {
        self.is_set.set(!table.is_empty());
        *self.table.borrow_mut() = table.clone();
        if table.is_empty() {
            self.buckets.take();
        }
    }

    /// Whether anybody is limited: the one test that the others pay.
    pub fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// How many buckets are in use.
    pub fn bucket_count(&self) -> usize {
        self.buckets.borrow().len()
    }

    fn charge_for(&self, limited: Limited, client: &str, amount: f64) -> Option<Charge> {
        let table = self.table.borrow();
        let (entity, value) = table.find(limited, ANONYMOUS, client)?;
        let rate = match limited {
            // The smallest numbers divided by 100 are 0, and what is divided by that may be no number.
            Limited::RequestTime => (value / 100.0).max(f64::MIN_POSITIVE),
            Limited::ProduceBytes | Limited::FetchBytes => value,
        };
        let user = entity.user.as_ref().map_or("", |_| ANONYMOUS);
        let client = entity.client.as_ref().map_or("", |_| client);
        Some(Charge { bucket: hash(limited, user, client), rate, amount })
    }

    /// Counts a use; how long the client is to be held back.
    pub fn count(&self, charge: Charge, now: Instant) -> Duration {
        let mut buckets = self.buckets.borrow_mut();
        let mut key = charge.bucket;
        if buckets.len() >= BUCKET_COUNT_MAX && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| bucket.level_at(now) > 0.0);
            if buckets.len() >= BUCKET_COUNT_MAX {
                key = 0;
            }
        }
        let empty = Bucket { level: 0.0, at: now, rate: charge.rate };
        let bucket = buckets.entry(key).or_insert(empty);
        let level = bucket.level_at(now) + charge.amount;
        *bucket = Bucket { level, at: now, rate: charge.rate };
        let over = (level / charge.rate - BURST.as_secs_f64()).clamp(0.0, THROTTLE_MAX.as_secs_f64());
        Duration::from_secs_f64(over)
    }
}

/// The same on every core (FNV-1a).
fn hash(limited: Limited, user: &str, client: &str) -> u64 {
    let bytes = [limited as u8].into_iter().chain(user.bytes()).chain([0xff]).chain(client.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// How long one connection is not read from: it used more than it may.
#[derive(Debug, Default)]
pub struct Mute {
    until: Cell<Option<Instant>>,
}

impl Mute {
    /// Makes it last for so long from now, if that is longer than it lasts already; the milliseconds to tell the client.
    pub fn extend(&self, throttle: Duration) -> i32 {
        if throttle.is_zero() {
            return 0;
        }
        let until = Instant::now() + throttle;
        self.until.set(Some(self.until.get().map_or(until, |now| now.max(until))));
        i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX).max(1)
    }
}

impl<D: Disk> Shard<D> {
    /// Counts what a client used; how long it is to be held back.
    pub async fn charge(&self, limited: Limited, client: Option<&str>, amount: f64) -> Duration {
        if !self.quotas.is_set() {
            return Duration::ZERO;
        }
        let charge = self.quotas.charge_for(limited, client.unwrap_or(""), amount);
        let Some(charge) = charge else { return Duration::ZERO };
        let core = match self.config.port_mode {
            PortMode::PerCore => self.core(),
            PortMode::Single => CoreId::new((charge.bucket % u64::from(self.mesh.core_count())) as u16),
        };
        let throttle = if core == self.core() {
            self.quotas.count(charge, Instant::now())
        } else {
            match self.mesh.ask(core, CoreRequest::Charge(charge)).await {
                Ok(CoreReply::Throttle(throttle)) => throttle,
                // The node stops.
                _ => Duration::ZERO,
            }
        };
        if !throttle.is_zero() {
            self.metrics.quota_throttles.add(1);
            self.metrics.quota_throttle_ms.add(throttle.as_millis() as u64);
        }
        throttle
    }

    /// Waits until a connection may be read from again.
    pub async fn wait_for_quota(self: &Rc<Self>, mute: &Mute) {
        while let Some(until) = mute.until.get() {
            if until <= Instant::now() || self.is_stopping() {
                mute.until.set(None);
                return;
            }
            // Fired when the core stops, and sometimes between.
            let event = Event::new();
            self.room.add(&event);
            time::until(until, event.wait()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::metadata::quota::{Entity, QuotaChange, Who};

    fn state(client: Who, rate: f64) -> QuotaState {
        let mut table = Quotas::default();
        let entity = Entity { user: None, client: Some(client) };
        table.change(&QuotaChange { entity, changes: BTreeMap::from([(Limited::ProduceBytes, Some(rate))]) });
        let state = QuotaState::default();
        state.apply(&Arc::new(table));
        state
    }

    #[test]
    fn a_client_gets_its_rate_and_not_more() {
        let state = state(Who::Default, 1000.0);
        let begun = Instant::now();
        let (mut now, mut sent) = (begun, 0);
        while now < begun + Duration::from_secs(100) {
            let charge = state.charge_for(Limited::ProduceBytes, "c", 300.0).expect("is limited");
            sent += 300;
            now += state.count(charge, now) + Duration::from_millis(1);
        }
        // 100 seconds, and what may be used at once.
        assert!((100_000..=101_600).contains(&sent), "{sent}");
    }

    #[test]
    fn each_client_has_its_own_bucket_and_others_none() {
        let state = state(Who::Default, 1000.0);
        let now = Instant::now();
        let use_all = |client: &str| {
            state.count(state.charge_for(Limited::ProduceBytes, client, 2000.0).expect("is limited"), now)
        };
        assert_eq!(use_all("a"), Duration::from_secs(1));
        assert_eq!(use_all("b"), Duration::from_secs(1));
        assert_eq!(use_all("a"), Duration::from_secs(3));
        assert!(state.charge_for(Limited::FetchBytes, "a", 1.0).is_none());
        let named = self::state(Who::Name("a".into()), 5.0);
        assert!(named.charge_for(Limited::ProduceBytes, "b", 1.0).is_none());
    }

    #[test]
    fn buckets_are_bounded_and_empty_ones_go_first() {
        let state = state(Who::Default, 1000.0);
        let now = Instant::now();
        let charge = |bucket, amount| Charge { bucket, rate: 1000.0, amount };
        for bucket in 1..=BUCKET_COUNT_MAX as u64 {
            state.count(charge(bucket, 500.0), now);
        }
        state.count(charge(1 << 40, 500.0), now);
        state.count(charge(1 << 41, 500.0), now);
        assert_eq!(state.bucket_count(), BUCKET_COUNT_MAX + 1, "those beyond share one");
        let later = now + Duration::from_secs(1);
        state.count(charge(1 << 42, 1.0), later);
        assert_eq!(state.bucket_count(), 1);
    }

    #[test]
    fn a_throttle_is_told_in_whole_milliseconds_and_only_grows() {
        let mute = Mute::default();
        assert_eq!(mute.extend(Duration::ZERO), 0);
        assert_eq!(mute.until.get(), None);
        assert_eq!(mute.extend(Duration::from_millis(2500)), 2500);
        let until = mute.until.get();
        assert_eq!(mute.extend(Duration::from_micros(10)), 1);
        assert_eq!(mute.until.get(), until);
    }
}
