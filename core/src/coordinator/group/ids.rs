//! Names and numbers of the group coordinator, each a type of its own.

use std::{borrow::Borrow, fmt, sync::Arc};

pub use crate::coordinator::ids::{Millis, RequestId, WriteSequence};

macro_rules! name {
    ($(#[$attr:meta])* $name:ident) => {
        $(#[$attr])*
        ///
        /// Cheap to clone; compares and sorts by its bytes.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is; what is allowed is checked where requests are handled.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text is empty, which on the wire means "none".
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self(Arc::from(""))
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name!(
    /// Name of a group (Kafka: `group.id`).
    GroupId
);
name!(
    /// Name of one life of a member within its group, given by the coordinator or, with KIP-848, by the client.
    MemberId
);
name!(
    /// Name of a static member that stays the same when its process restarts (Kafka: `group.instance.id`, KIP-345).
    InstanceId
);
name!(
    /// Name of a topic.
    TopicName
);
name!(
    /// Name of an embedded protocol or of its type, for example `range` and `consumer`.
    ProtocolName
);
name!(
    /// A regular expression that a member subscribes with.
    TopicRegex
);

heddle_proto::integer_id!(
    /// Number of a rebalance of a classic group; -1 on the wire means "not a member".
    Generation(i32)
);
heddle_proto::integer_id!(
    /// Version of a consumer group (KIP-848): of its metadata, of its target assignment, of what a member has reached.
    GroupEpoch(i32)
);
impl Generation {
    /// "Not a member" in a request, "no generation" in a reply.
    pub const NONE: Self = Self(-1);

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl GroupEpoch {
    /// A member that wants to join, and the epoch of a group that nobody joined yet.
    pub const JOINING: Self = Self(0);
    /// A member that leaves.
    pub const LEAVING: Self = Self(-1);
    /// A static member that leaves and means to come back.
    pub const LEAVING_FOR_A_WHILE: Self = Self(-2);

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
