//! Numbers that all coordinators share.

use std::time::Duration;

heddle_proto::integer_id!(
    /// Names a waiting client to the caller, who made the number up; the machine only hands it back.
    RequestId(u64)
);
heddle_proto::integer_id!(
    /// Counts the writes of one coordinator, from 1; 0 is "nothing was ever written".
    WriteSequence(u64)
);
heddle_proto::integer_id!(
    /// A point in time, in milliseconds since the Unix epoch.
    Millis(i64)
);

impl WriteSequence {
    /// The write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Millis {
    /// The point `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How much later this point is than `earlier`; nothing when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
