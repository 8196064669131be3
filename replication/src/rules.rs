//! The rules that keep a partition safe, each with a name, so that the model can take one out and show what it is for.
//!
//! In the broker every rule holds and asking costs nothing; with the feature `omit-rules` a test may omit one.

/// One rule. `docs/replication.md` gives the reason of each.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A record is committed when the primary and enough others hold it.
    CommitQuorum,
    /// While a change of the in-sync set or its quorum is under way, only what satisfies both is committed.
    BothSets,
    /// Acknowledgements count in the epoch in which they were given.
    AckOfThisEpoch,
    /// Acknowledgements count as long as the replica that gave them has not restarted.
    AckOfThisLife,
    /// A sealed replica takes nothing from older epochs.
    SealRefusesOlder,
    /// A seal is on stable storage before it is answered.
    SealIsStable,
    /// Enough members of the in-sync set answer a seal before anybody is elected.
    SealQuorum,
    /// Among the answers the highest accepted epoch wins, then the longest log.
    HighestAcceptedWins,
    /// Leadership is granted to one life of a replica; after a restart it needs a new epoch.
    LeadInOneLife,
    /// What the log does not share with the primary's is cut.
    CutDivergence,
    /// The cut is on stable storage before the epoch is recorded as accepted.
    CutBeforeAccept,
    /// An epoch is recorded as accepted before anything is acknowledged in it.
    AcceptBeforeAck,
    /// An epoch is accepted only by who holds the whole log with which its primary was elected.
    ElectedLogBeforeAccept,
    /// A smaller in-sync set, or another commit quorum, is proposed when enough of it holds all that was committed.
    ShrinkKeepsCommitted,
    /// A smaller in-sync set, or another commit quorum, is proposed when enough of it holds the log with which the primary was
    /// elected.
    ShrinkKeepsElectedLog,
    /// A newcomer to an in-sync set of which all members hold what is committed holds it too.
    GrowKeepsCommitted,
    /// A newcomer to the in-sync set has acknowledged something since it knew this version of the set.
    GrowOfThisVersion,
    /// Metadata takes a change of the in-sync set from the primary of the current epoch only.
    ChangeOfThisEpoch,
    /// Metadata takes a change of exactly the version of the in-sync set it was made for.
    ChangeOfThisVersion,
    /// Metadata takes no change of the in-sync set while an election is under way.
    NoChangeInElection,
    /// A replica that forgot does not count among the answers to a seal.
    ForgotAbstains,
    /// That it forgot is on stable storage until it is whole again.
    ForgettingIsStable,
    /// A replica that forgot is whole again when it holds all that was committed when the primary greeted it.
    WholeWhenCaughtUp,
    /// The mark of a clean stop is removed before the replica takes part again.
    CleanMarkRemoved,
    /// Only a whole replica leaves the mark of a clean stop.
    CleanMarkOfWhole,
    /// A replica that lost its promises takes the newest epoch of the metadata as promised.
    PromiseFromMetadata,
}

/// Which rules hold.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(feature = "omit-rules")]
    omitted: Option<Rule>,
}

impl Rules {
    /// All rules but one. For tests.
    #[cfg(feature = "omit-rules")]
    pub fn without(rule: Rule) -> Rules {
        Rules { omitted: Some(rule) }
    }

    /// Whether `rule` holds: always, in the broker.
    #[inline]
    pub fn hold(self, rule: Rule) -> bool {
        #[cfg(feature = "omit-rules")]
        return self.omitted != Some(rule);
        #[cfg(not(feature = "omit-rules"))]
        {
            let _ = rule;
            true
        }
    }

    /// Whether all of them hold: then a broken invariant is a bug.
    pub fn all_hold(self) -> bool {
        #[cfg(feature = "omit-rules")]
        return self.omitted.is_none();
        #[cfg(not(feature = "omit-rules"))]
        true
    }
}
