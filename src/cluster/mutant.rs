//! Rules of the election that the simulator breaks one at a time, to show that it would notice.

/// A rule that is broken on purpose. Only debug builds can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The longer log wins, whatever its last epoch.
    OffsetWithoutEpoch,
    /// A majority for a record of an earlier epoch commits it [Raft 5.4.2, figure 8].
    CommitOfOldEpochs,
    /// An acknowledgement counts, whatever the epoch in which it was sent.
    AckWithoutEpoch,
    /// The leader's own log counts, although it has adopted a later epoch.
    OwnLevelWithoutEpoch,
    /// A node votes right after its start, although an earlier process may have promised not to.
    NoWaitAfterRestart,
    /// The vote of a node that may have forgotten records counts like any other.
    RecoveringVotesCounted,
    /// A node asks for votes within its own promise.
    PromiseNotBindingCandidate,
    /// The leader counts with its own timeout where members have promised less.
    FenceWithOwnTimeout,
    /// A heartbeat that was overtaken replaces the promise of a later one.
    LateBeatLowersPromise,
    /// A leader with a live quorum answers to an election.
    AskDeposes,
    /// A node that hears no leader moves to the next epoch without asking first whether it would win it.
    NoPreVote,
    /// Two votes in one epoch.
    VoteTwice,
    /// A vote is sent before it is durable.
    VoteNotSynced,
    /// A voter compares with the end of its log as it was some time ago.
    CachedLogEnd,
    /// A link goes on, and acknowledges in its own epoch, although its follower is in a later one.
    LinkSurvivesEpoch,
    /// The gate compares the record's number only, not the history in which it was written.
    GateWithoutHistory,
    /// The request for a link counts as an acknowledgement.
    HandshakeAsAck,
    /// A restarted node shows what is in its log without waiting for the commit.
    LoadWithoutLastSeq,
    /// Readers are let through while no majority confirms.
    ReadersLetThrough,
    /// A full copy does not mark the node as recovering.
    CopyWithoutFlag,
    /// A node that does not lead serves the log, and makes its follower whole.
    WholeFromNonLeader,
    /// Any record's commit confirms a read that ran later in the same batch.
    AnyWriteConfirmsRead,
    /// A heartbeat's round of another epoch confirms a read.
    RoundOfAnotherEpoch,
    /// A node forgets that it was strict as soon as a record says `ack leader`.
    StrictClearedOnAppend,
    /// `appendfsync` becomes weaker, and the boot is not noted before.
    PolicyWeakenedWithoutBoot,
    /// A node that lost power votes as if it had forgotten nothing.
    BootIgnored,
    /// A heartbeat's commit moves a follower's, whatever its log holds.
    CommitFromBeat,
    /// An answer counts for the address at which it was asked, not for the id that answers.
    HeardByAddress,
    /// A change of who votes begins before the one before it, and a record of the leader's own epoch, are committed.
    TwoMembersChanges,
    /// A node that its newest members record does not name never asks for votes.
    RemovedNeverAsk,
    /// A node that has forgotten records has also forgotten how far the members records went.
    ForgetsHowFar,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 31] = [
        Mutant::OffsetWithoutEpoch,
        Mutant::CommitOfOldEpochs,
        Mutant::AckWithoutEpoch,
        Mutant::OwnLevelWithoutEpoch,
        Mutant::NoWaitAfterRestart,
        Mutant::RecoveringVotesCounted,
        Mutant::PromiseNotBindingCandidate,
        Mutant::FenceWithOwnTimeout,
        Mutant::LateBeatLowersPromise,
        Mutant::AskDeposes,
        Mutant::NoPreVote,
        Mutant::VoteTwice,
        Mutant::VoteNotSynced,
        Mutant::CachedLogEnd,
        Mutant::LinkSurvivesEpoch,
        Mutant::GateWithoutHistory,
        Mutant::HandshakeAsAck,
        Mutant::LoadWithoutLastSeq,
        Mutant::ReadersLetThrough,
        Mutant::CopyWithoutFlag,
        Mutant::WholeFromNonLeader,
        Mutant::AnyWriteConfirmsRead,
        Mutant::RoundOfAnotherEpoch,
        Mutant::StrictClearedOnAppend,
        Mutant::PolicyWeakenedWithoutBoot,
        Mutant::BootIgnored,
        Mutant::CommitFromBeat,
        Mutant::HeardByAddress,
        Mutant::TwoMembersChanges,
        Mutant::RemovedNeverAsk,
        Mutant::ForgetsHowFar,
    ];
}
