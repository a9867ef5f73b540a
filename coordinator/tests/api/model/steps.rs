//! Histories: what miners, clients and time do, drawn at random and made smaller when they fail.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;

/// What happens, step by step.
#[derive(Clone)]
pub struct History(pub Vec<Step>);

/// One step of a history. Numbers say which of what there is then; where there is nothing, nothing
/// happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// Seconds pass.
    Wait(u64),
    /// A replica's clock is set: so many milliseconds beside the time from now on.
    Set(usize, i64),
    /// A request to a replica.
    One(usize, Act),
    /// Two requests at once, each to a replica.
    Both((usize, Act), (usize, Act)),
    /// A request twice at once: to two replicas, or in one batch of one.
    Twice(usize, usize, Act),
}

#[derive(Debug, Clone)]
pub enum Act {
    Submit {
        prepaid: bool,
        terms: usize,
        keyed: bool,
    },
    Claim {
        miner: usize,
    },
    Ack {
        lease: usize,
        by: By,
        keyed: bool,
    },
    Renew {
        lease: usize,
        by: By,
    },
    Prove {
        lease: usize,
        by: By,
        output: bool,
        evidence: Evidence,
        keyed: bool,
    },
    Fail {
        lease: usize,
        by: By,
        code: usize,
        keyed: bool,
    },
    Cancel {
        job: usize,
        foreign: bool,
        keyed: bool,
    },
    /// A request that was sent before, again or late.
    Again {
        sent: usize,
    },
    Sweep,
}

/// In whose name.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// Whoever holds or held the lease, with its token.
    Holder,
    /// The same, without token.
    Tokenless,
    /// Another wallet that got hold of the token.
    Thief,
}

/// What a proof brings with it.
#[derive(Debug, Clone, Copy)]
pub enum Evidence {
    Nothing,
    /// A receipt for so many units, signed under the lease.
    Signed(i64),
    /// A receipt that the same miner signed under its first lease of the job.
    SignedBefore(i64),
}

/// What passes between steps: less and more than each of the times that matter.
const PAUSES: [u64; 12] = [1, 4, 5, 9, 11, 21, 31, 61, 125, 700, 1000, 90_000];

/// How far clocks are off, in milliseconds: as far as those of replicas may be, either way.
const OFF: [i64; 7] = [-3000, -2000, -700, 0, 700, 2000, 3000];

/// A history.
pub fn history() -> impl Strategy<Value = History> {
    prop::collection::vec(phrase(), 1..20).prop_map(|phrases| History(phrases.concat()))
}

/// A line per step: whoever reads a failure has all of it in sight.
impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, step)| write!(f, "\n  step {i}: {step:?}"))
    }
}

/// A step, or some that are worth more together.
fn phrase() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        10 => step().prop_map(|step| vec![step]),
        2 => (0..4_usize, any::<bool>(), 0..TERMS).prop_map(|(miner, prepaid, terms)| {
            let submit = Act::Submit { prepaid, terms, keyed: false };
            vec![Step::One(0, submit), Step::One(0, Act::Claim { miner })]
        }),
        // A miner loses its lease, or gives up, gets the same job again, and speaks under the lease
        // that it has or under the one before.
        3 => (0..3_usize, select(&PAUSES[3..8]), 0..2_usize, evidence()).prop_map(|(miner, secs, lease, evidence)| {
            let (by, keyed) = (By::Holder, false);
            let prove = Act::Prove { lease, by, output: false, evidence, keyed };
            let again = [Act::Claim { miner }, Act::Sweep, Act::Claim { miner }, prove];
            let mut steps: Vec<Step> = again.into_iter().map(|act| Step::One(0, act)).collect();
            steps.insert(1, Step::Wait(secs));
            steps
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => select(&PAUSES[..]).prop_map(Step::Wait),
        2 => (0..2_usize, select(&OFF[..])).prop_map(|(replica, off)| Step::Set(replica, off)),
        12 => (0..2_usize, act()).prop_map(|(replica, act)| Step::One(replica, act)),
        2 => ((0..2_usize, act()), (0..2_usize, act())).prop_map(|(a, b)| Step::Both(a, b)),
        2 => (0..2_usize, 0..2_usize, act()).prop_map(|(a, b, act)| Step::Twice(a, b, act)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let keyed = || prop::bool::weighted(0.3);
    // Mostly the latest lease.
    let lease = || prop_oneof![3 => Just(0_usize), 2 => 0..6_usize];
    prop_oneof![
        3 => (any::<bool>(), 0..TERMS, keyed())
            .prop_map(|(prepaid, terms, keyed)| Act::Submit { prepaid, terms, keyed }),
        5 => (0..4_usize).prop_map(|miner| Act::Claim { miner }),
        2 => (lease(), by(), keyed()).prop_map(|(lease, by, keyed)| Act::Ack { lease, by, keyed }),
        1 => (lease(), by()).prop_map(|(lease, by)| Act::Renew { lease, by }),
        4 => (lease(), by(), prop::bool::weighted(0.2), evidence(), keyed()).prop_map(
            |(lease, by, output, evidence, keyed)| Act::Prove { lease, by, output, evidence, keyed }
        ),
        3 => (lease(), by(), 0..4_usize, keyed())
            .prop_map(|(lease, by, code, keyed)| Act::Fail { lease, by, code, keyed }),
        1 => (0..6_usize, prop::bool::weighted(0.2), keyed())
            .prop_map(|(job, foreign, keyed)| Act::Cancel { job, foreign, keyed }),
        3 => (0..10_usize).prop_map(|sent| Act::Again { sent }),
        3 => Just(Act::Sweep),
    ]
}

/// How many terms a client may choose from.
pub const TERMS: usize = 5;

fn by() -> impl Strategy<Value = By> {
    prop_oneof![6 => Just(By::Holder), 1 => Just(By::Tokenless), 1 => Just(By::Thief)]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        4 => Just(Evidence::Nothing),
        2 => select(vec![0, 1, 6, 61]).prop_map(Evidence::Signed),
        2 => Just(Evidence::SignedBefore(0)),
    ]
}
