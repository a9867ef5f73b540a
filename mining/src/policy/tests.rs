//! Each rule by itself, and what holds whatever the facts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A quiet machine of four processors with a dataset in memory, a minute after the start.
fn quiet() -> Facts {
    Facts {
        at_ms: 60_000,
        unix_s: 1_000_000,
        processors: vec![0, 1, 2, 3],
        others_load: Some(0.1),
        available_mb: Some(8000),
        local: Some(LocalTime { weekday: 0, minute: 12 * 60 }),
        mining: Mining {
            threads_most: 4,
            memory_held_mb: 2336,
            memory_need_mb: 2336,
            hashrate: Some(1000.0),
            rebuild_s: Some(12.0),
            has_gpu: false,
        },
        ..Facts::default()
    }
}

fn job(processors: &[usize], class: Class) -> Demand {
    Demand { processors: processors.to_vec(), memory_mb: 0, class }
}

/// The state of a machine that has been quiet for long.
fn settled(rules: &Rules) -> State {
    let mut state = State::default();
    for at_ms in [0, 59_000] {
        state = decide(rules, &Facts { at_ms, ..quiet() }, &state).1;
    }
    state
}

fn decided(change_rules: impl FnOnce(&mut Rules), change: impl FnOnce(&mut Facts)) -> Decision {
    let mut rules = Rules::default();
    change_rules(&mut rules);
    let mut facts = quiet();
    change(&mut facts);
    decide(&rules, &facts, &settled(&rules)).0
}

#[test]
fn each_rule_decides_where_it_should() {
    type Change<T> = fn(&mut T);
    let same: Change<Rules> = |_| {};
    let calm: Change<Facts> = |_| {};
    let table: &[(Rule, usize, Change<Rules>, Change<Facts>)] = &[
        (Rule::Idle, 4, same, calm),
        (Rule::Off, 0, |rules| rules.mining = false, calm),
        (Rule::Snoozed, 0, same, |facts| facts.snooze_until = Some(1_000_060)),
        (Rule::Idle, 4, same, |facts| facts.snooze_until = Some(1_000_000)),
        (Rule::Battery, 0, same, |facts| facts.on_battery = Some(true)),
        (Rule::Idle, 4, |rules| rules.on_battery = true, |facts| facts.on_battery = Some(true)),
        (
            Rule::Temperature,
            0,
            |rules| rules.max_temperature_c = Some(80),
            |facts| facts.temperature_c = Some(80.5),
        ),
        (Rule::Idle, 4, |rules| rules.max_temperature_c = Some(80), calm),
        (Rule::Power, 0, |rules| rules.max_power_w = Some(65), |facts| facts.power_w = Some(65.0)),
        (
            Rule::Schedule,
            0,
            |rules| rules.schedule = vec!["mon-fri 22:00-06:00".parse().unwrap()],
            calm,
        ),
        (Rule::Schedule, 2, |rules| rules.schedule = vec!["08:00-16:00=50".parse().unwrap()], calm),
        (
            Rule::Schedule,
            0,
            |rules| rules.schedule = vec!["08:00-16:00".parse().unwrap()],
            |facts| facts.local = None,
        ),
        (Rule::Input, 0, same, |facts| facts.input_idle_s = Some(119)),
        (Rule::Idle, 4, same, |facts| facts.input_idle_s = Some(120)),
        (Rule::Input, 1, |rules| rules.in_use_pct = 30, |facts| facts.input_idle_s = Some(5)),
        (Rule::Unseen, 0, same, |facts| facts.unseen_s = 10),
        (Rule::Load, 0, same, |facts| facts.others_load = Some(1.4)),
        (Rule::Idle, 4, same, |facts| facts.others_load = Some(1.3)),
        (Rule::Idle, 4, |rules| rules.busy_pct = 100, |facts| facts.others_load = Some(4.2)),
        (
            Rule::Pressure,
            0,
            |rules| rules.cpu_pressure_pct = Some(30),
            |facts| facts.cpu_pressure_pct = Some(31.0),
        ),
        (Rule::Cap, 2, |rules| rules.cpu_pct = 50, calm),
        (Rule::Cap, 3, |rules| rules.cpu_threads = Some(3), calm),
        (Rule::Cap, 0, |rules| rules.cpu_pct = 0, calm),
        (Rule::Jobs, 1, same, |facts| facts.jobs = vec![job(&[1, 2, 3], Class::Normal)]),
        (Rule::Jobs, 0, same, |facts| facts.jobs = vec![job(&[0, 1, 2, 3], Class::Normal)]),
        (Rule::CriticalJob, 0, same, |facts| facts.jobs = vec![job(&[3], Class::Critical)]),
        (Rule::Memory, 0, same, |facts| facts.available_mb = Some(400)),
        (Rule::Memory, 0, same, |facts| facts.memory_pressure_pct = Some(20.0)),
    ];
    for (number, (rule, threads, change_rules, change)) in table.iter().enumerate() {
        let decision = decided(change_rules, change);
        assert_eq!((decision.cpu.rule, decision.threads), (*rule, *threads), "row {number}");
        assert_eq!(decision.processors, (0..*threads).collect::<Vec<_>>(), "row {number}");
        assert!(!decision.cpu.why.is_empty() && !decision.cpu.change.is_empty());
    }
}

#[test]
fn three_jobs_on_four_processors_leave_one_thread() {
    let rules = Rules::default();
    let (mut facts, mut state) = (quiet(), settled(&rules));
    let mut threads = Vec::new();
    for step in 0..=3 {
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        threads.push(decision.threads);
        let taken: Vec<_> = facts.jobs.iter().map(|job| job.processors.clone()).collect();
        let others: Vec<_> = taken.iter().map(Vec::as_slice).collect();
        let granted = grant(&facts.processors, &others, 1);
        assert_eq!(granted, [3 - step]);
        facts.jobs.push(job(&granted, Class::Normal));
    }
    assert_eq!(threads, [4, 3, 2, 1]);
    facts.jobs.clear();
    // At once, whatever the quantum: nobody but a job was in the way.
    assert_eq!(decide(&rules, &facts, &state).0.threads, 4);
}

#[test]
fn more_jobs_than_processors_share_them() {
    assert_eq!(grant(&[0, 1], &[&[0, 1]], 1), [1]);
    assert_eq!(grant(&[0, 1], &[&[0, 1], &[1]], 1), [0]);
    assert_eq!(grant(&[0, 1], &[], 9), [0, 1]);
    assert_eq!(grant(&[4], &[], 0), [4]);
    assert_eq!(grant(&[], &[], 3), [] as [usize; 0]);
}

#[test]
fn memory_goes_where_a_job_needs_it_and_comes_back_only_when_there_is_room() {
    let rules = Rules::default();
    let mut facts = quiet();
    facts.available_mb = Some(3000);
    facts.jobs = vec![Demand { processors: vec![3], memory_mb: 2000, class: Class::Normal }];
    let (decision, state) = decide(&rules, &facts, &settled(&rules));
    assert_eq!((decision.cpu.rule, decision.memory), (Rule::Jobs, Memory::Keep));

    facts.jobs[0].memory_mb = 2600;
    let (decision, state) = decide(&rules, &facts, &state);
    assert_eq!((decision.cpu.rule, decision.memory), (Rule::Memory, Memory::GiveBack));
    assert!(decision.memory_why.unwrap().contains("building it anew takes 12 s"));

    // The room that it gave back is not room to take again while the job may use it.
    facts.mining.memory_held_mb = 0;
    facts.available_mb = Some(3000 + 2336);
    let (decision, state) = decide(&rules, &facts, &state);
    assert_eq!((decision.threads, decision.memory), (0, Memory::GiveBack));
    facts.jobs.clear();
    facts.at_ms += 10_000;
    let (decision, state) = decide(&rules, &facts, &state);
    assert_eq!(decision.threads, 4);

    facts.jobs = vec![Demand { processors: vec![3], memory_mb: 2600, class: Class::Normal }];
    let rules = Rules { memory_for_jobs: false, ..rules };
    assert_eq!(decide(&rules, &facts, &state).0.threads, 3);
}

#[test]
fn memory_that_comes_and_goes_is_not_taken_each_time() {
    let rules = Rules::default();
    let mut state = settled(&rules);
    // Its 2336 MiB are among what is available once they were given back.
    let mut held = true;
    let mut seen = Vec::new();
    for (second, others_leave) in [
        (60, 520),
        (61, 500),
        // Room again, and at once: not before the quantum is over, and not without a margin.
        (62, 2000),
        (69, 2000),
        (71, 1000),
        (72, 1023),
        (73, 1024),
        (74, 513),
        (75, 511),
    ] {
        let mut facts = Facts { at_ms: second * 1000, ..quiet() };
        facts.mining.memory_held_mb = if held { 2336 } else { 0 };
        facts.available_mb = Some(others_leave + if held { 0 } else { 2336 });
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        held = decision.memory == Memory::Keep;
        seen.push(decision.threads);
        assert_eq!(held, decision.threads == 4, "{second}");
        assert_eq!(decision.cpu.rule == Rule::Memory, !held, "{second}: {:?}", decision.cpu);
    }
    assert_eq!(seen, [4, 0, 0, 0, 0, 0, 4, 4, 0]);
}

#[test]
fn memory_goes_after_a_long_pause() {
    let rules = Rules { mining: false, memory_after_min: 5, ..Rules::default() };
    let mut state = State::default();
    let mut given = Vec::new();
    for minute in 0..8 {
        let facts = Facts { at_ms: minute * 60_000, ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        given.push(decision.memory == Memory::GiveBack);
    }
    assert_eq!(given, [false, false, false, false, false, true, true, true]);
}

#[test]
fn a_quiet_time_has_to_last() {
    let rules = Rules { quantum_s: 0, ..Rules::default() };
    let mut state = State::default();
    let mut threads = Vec::new();
    // Between the two limits nothing changes, but the quiet time begins anew.
    for (second, load) in [
        (0, 0.0),
        (20, 0.0),
        (25, 1.0),
        (30, 0.0),
        (59, 0.0),
        (60, 0.0),
        (61, 1.0),
        (62, 1.5),
        (63, 0.0),
    ] {
        let facts = Facts { at_ms: second * 1000, others_load: Some(load), ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        threads.push(decision.threads);
    }
    assert_eq!(threads, [0, 0, 0, 0, 0, 4, 4, 0, 0]);
}

#[test]
fn a_stop_lasts_for_a_quantum_and_the_owner_ends_it() {
    let rules = Rules { quantum_s: 10, ..Rules::default() };
    let mut state = settled(&rules);
    let mut seen = Vec::new();
    for (second, idle) in [(60, 999), (61, 0), (62, 999), (70, 999), (71, 999)] {
        let facts = Facts { at_ms: second * 1000, input_idle_s: Some(idle), ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        seen.push((decision.cpu.rule, decision.threads));
    }
    let (idle, quantum) = ((Rule::Idle, 4), (Rule::Quantum, 0));
    assert_eq!(seen, [idle, (Rule::Input, 0), quantum, quantum, idle]);
    // A switch is no environment: back at once.
    let off = Rules { mining: false, ..rules.clone() };
    let facts = Facts { at_ms: 100_000, ..quiet() };
    let (decision, state) = decide(&off, &facts, &state);
    assert_eq!(decision.cpu.rule, Rule::Off);
    assert_eq!(decide(&rules, &facts, &state).0.threads, 4);
}

#[test]
fn heat_has_to_go_down_by_some_degrees() {
    let rules = Rules { max_temperature_c: Some(80), quantum_s: 0, ..Rules::default() };
    let mut state = settled(&rules);
    let mut threads = Vec::new();
    for (step, celsius) in [79.0, 80.0, 76.0, 74.9, 76.0].into_iter().enumerate() {
        let at_ms = 60_000 + step as u64;
        let facts = Facts { at_ms, temperature_c: Some(celsius), ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        threads.push(decision.threads);
    }
    assert_eq!(threads, [4, 0, 0, 4, 4]);
}

#[test]
fn turns_are_as_long_as_the_slice() {
    let rules = Rules { slice_s: 10, ..Rules::default() };
    let mut state = State::default();
    let mut takes = Vec::new();
    for second in (0..40).step_by(5) {
        let facts = Facts { at_ms: second * 1000, ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        takes.push(decision.takes_jobs());
    }
    assert_eq!(takes, [true, true, false, false, true, true, false, false]);
    let off = Rules { mining: false, ..rules };
    let facts = Facts { at_ms: 50_000, ..quiet() };
    assert!(decide(&off, &facts, &state).0.takes_jobs());
}

#[test]
fn what_pays_more_goes_first_and_by_a_margin() {
    let decimal = |text: &str| Some(text.parse::<Decimal>().unwrap());
    let rules = Rules {
        hash_value: decimal("0.1"),
        energy_price: decimal("0.3"),
        watts: Some(100),
        ..Rules::default()
    };
    let mut state = settled(&rules);
    let mut seen = Vec::new();
    // A thousand hashes a second are worth 0.36 an hour; energy costs 0.03: mining leaves 0.33.
    for pay in [None, Some(0.40), Some(0.32), Some(0.36), Some(0.40), Some(0.36), Some(0.32)] {
        let facts = Facts { jobs_pay_per_h: pay, ..quiet() };
        let decision;
        (decision, state) = decide(&rules, &facts, &state);
        let numbers = decision.revenue.unwrap();
        assert!((numbers.mining() - 0.33).abs() < 1e-9, "{numbers:?}");
        seen.push((decision.threads, decision.jobs.rule));
    }
    use Rule::{Idle, Revenue};
    // Jobs net of energy: 0.37, 0.29, 0.33, 0.37, 0.33, 0.29.
    assert_eq!(
        seen,
        [(4, Idle), (4, Idle), (4, Revenue), (4, Revenue), (4, Idle), (4, Idle), (4, Revenue)]
    );

    // At a tariff of 5 an hour's energy costs 0.5: nothing is mined, and jobs are taken.
    let dear = Rules { tariff: vec!["00:00-24:00=5".parse().unwrap()], ..rules };
    let facts = Facts { jobs_pay_per_h: Some(0.01), ..quiet() };
    let decision = decide(&dear, &facts, &state).0;
    assert_eq!((decision.threads, decision.cpu.rule), (0, Revenue));
    assert!(decision.takes_jobs());
}

#[test]
fn who_does_not_hash_has_not_shown_that_it_does_not_pay() {
    let decimal = |text: &str| Some(text.parse::<Decimal>().unwrap());
    let pays = |rules: &mut Rules| {
        rules.hash_value = decimal("0.1");
        rules.energy_price = decimal("0.3");
        rules.watts = Some(100);
    };
    for hashrate in [None, Some(0.0)] {
        let decision = decided(pays, |facts| facts.mining.hashrate = hashrate);
        assert_eq!((decision.cpu.rule, decision.revenue), (Rule::Idle, None));
    }
    let decision = decided(pays, |facts| facts.mining.hashrate = Some(1.0));
    assert_eq!((decision.cpu.rule, decision.threads), (Rule::Revenue, 0));
}

#[test]
fn a_gpu_follows_the_owner_and_its_jobs() {
    let with_gpu = |change: fn(&mut Rules), facts: fn(&mut Facts)| {
        let decision = decided(change, |known| {
            known.mining.has_gpu = true;
            facts(known);
        });
        (decision.gpu_intensity(), decision.gpu.rule)
    };
    assert_eq!(with_gpu(|_| {}, |_| {}), (100, Rule::Idle));
    assert_eq!(with_gpu(|rules| rules.gpu_intensity = 40, |_| {}), (40, Rule::Cap));
    assert_eq!(with_gpu(|_| {}, |facts| facts.gpu_jobs = 1), (0, Rule::Jobs));
    assert_eq!(with_gpu(|_| {}, |facts| facts.input_idle_s = Some(0)), (0, Rule::Input));
    // Jobs on processors leave it alone.
    let jobs: fn(&mut Facts) = |facts| facts.jobs = vec![job(&[0, 1, 2, 3], Class::Normal)];
    assert_eq!(with_gpu(|_| {}, jobs), (100, Rule::Idle));
    let none = decided(|_| {}, |_| {});
    assert!(none.gpu_intensity() == 0 && none.gpu.why.contains("no GPU"));
}

#[test]
fn jobs_have_rules_of_their_own() {
    let jobs = |change: fn(&mut Rules), facts: fn(&mut Facts)| decided(change, facts).jobs.rule;
    assert_eq!(jobs(|_| {}, |_| {}), Rule::Idle);
    assert_eq!(jobs(|rules| rules.compute = false, |_| {}), Rule::Off);
    assert_eq!(jobs(|_| {}, |facts| facts.snooze_until = Some(u64::MAX)), Rule::Snoozed);
    assert_eq!(jobs(|rules| rules.mining = false, |_| {}), Rule::Idle);
    let typing: fn(&mut Facts) = |facts| facts.input_idle_s = Some(1);
    assert_eq!(jobs(|_| {}, typing), Rule::Idle);
    assert_eq!(jobs(|rules| rules.compute_in_use = false, typing), Rule::Input);
}

/// Facts of a machine of eight processors, of any kind.
fn any_facts() -> impl Strategy<Value = Facts> {
    let class = prop_oneof![Just(Class::Low), Just(Class::Normal), Just(Class::Critical)];
    let demand = (vec(0_usize..8, 1..8), 0_u64..4000, class);
    let demand =
        demand.prop_map(|(processors, memory_mb, class)| Demand { processors, memory_mb, class });
    (
        1_u64..5000,
        vec(demand, 0..4),
        proptest::option::of(0.0..8.0),
        proptest::option::of(0_u64..300),
        proptest::option::of(any::<bool>()),
        proptest::option::of(0.0..120.0),
        proptest::option::of(0_u64..9000),
        0_usize..10,
    )
        .prop_map(|(step, jobs, load, input, battery, celsius, available, threads_most)| {
            Facts {
                at_ms: step,
                unix_s: 1,
                processors: (0..8).collect(),
                jobs,
                others_load: load,
                input_idle_s: input,
                on_battery: battery,
                temperature_c: celsius,
                available_mb: available,
                mining: Mining { threads_most, memory_need_mb: 2336, ..Mining::default() },
                ..Facts::default()
            }
        })
}

proptest! {
    #[test]
    fn mining_and_jobs_never_share(
        trace in vec(any_facts(), 1..60),
        cpu_pct in 0_u8..=100,
        cpu_threads in proptest::option::of(0_u32..10),
    ) {
        let rules = Rules { cpu_pct, cpu_threads, quantum_s: 3, quiet_s: 2, ..Rules::default() };
        let mut state = State::default();
        let mut at_ms = 0;
        for mut facts in trace {
            at_ms += facts.at_ms;
            facts.at_ms = at_ms;
            let decision;
            (decision, state) = decide(&rules, &facts, &state);
            let all = facts.processors.len().min(facts.mining.threads_most);
            prop_assert_eq!(decision.processors.len(), decision.threads);
            let of_jobs = |number: &usize| facts.jobs.iter().any(|job| job.processors.contains(number));
            prop_assert!(!decision.processors.iter().any(of_jobs));
            let taken = facts.processors.iter().filter(|number| of_jobs(number)).count();
            prop_assert!(decision.threads + taken <= facts.processors.len());
            prop_assert!(decision.threads <= share(all, cpu_pct));
            prop_assert!(decision.threads <= cpu_threads.map_or(usize::MAX, |most| most as usize));
            prop_assert!(decision.others.iter().all(|other| other.most >= decision.threads));
            prop_assert!(decision.memory == Memory::Keep || decision.threads == 0);
            if facts.jobs.iter().any(|job| job.class == Class::Critical) {
                prop_assert_eq!(decision.threads, 0);
            }
        }
    }

    #[test]
    fn nothing_flaps_within_a_quantum(
        trace in vec((any_facts(), 0_u64..3000), 2..80),
        quantum_s in 1_u32..20,
    ) {
        let rules = Rules { quantum_s, quiet_s: 0, max_temperature_c: Some(80), ..Rules::default() };
        let (mut state, mut at_ms, mut before, mut lowered) = (State::default(), 0, 0, None);
        for (facts, step) in trace {
            at_ms += step;
            let jobs = Vec::new();
            let mining = Mining { threads_most: 8, ..Mining::default() };
            let facts = Facts { at_ms, jobs, available_mb: None, mining, ..facts };
            let decision;
            (decision, state) = decide(&rules, &facts, &state);
            if decision.threads < before {
                lowered = Some(at_ms);
            } else if let (true, Some(lowered)) = (decision.threads > before, lowered) {
                prop_assert!(at_ms - lowered >= u64::from(quantum_s) * 1000);
            }
            before = decision.threads;
        }
    }
}
