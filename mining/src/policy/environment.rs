//! The rules about the machine and the people at it. Each lets go at once and comes back late: with
//! hysteresis where it compares numbers, and never sooner than a quantum after the last stop.

use super::{Facts, Opinion, Rule, Rules, share, words};

/// By how much it has to cool down before mining goes on, in degrees.
const COOLER: f64 = 5.0;

/// To which part of its limit power or pressure has to fall before mining goes on.
const RELIEF: f64 = 0.8;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    hot: bool,
    hungry: bool,
    pressed: bool,
    /// Whether others have let the machine be for long enough.
    quiet: bool,
    /// Since when others take little.
    quiet_since_ms: Option<u64>,
    /// What all of it came to last: how many threads, and when that was lowered.
    before: Option<(usize, u64)>,
}

impl State {
    /// What the environment says now, hysteresis included.
    pub(super) fn opinions(&mut self, rules: &Rules, facts: &Facts, all: usize) -> Vec<Opinion> {
        let in_use = share(all, rules.in_use_pct);
        [
            unseen(facts),
            battery(rules, facts),
            self.temperature(rules, facts),
            self.power(rules, facts),
            schedule(rules, facts, all),
            input(rules, facts, in_use),
            self.load(rules, facts, in_use),
            self.pressure(rules, facts, in_use),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The same, with a stop made to last for its quantum.
    pub(super) fn held(
        &mut self,
        rules: &Rules,
        facts: &Facts,
        mut opinions: Vec<Opinion>,
        all: usize,
    ) -> Vec<Opinion> {
        let now = opinions.iter().map(|opinion| opinion.most).min().unwrap_or(all);
        let quantum_ms = u64::from(rules.quantum_s) * 1000;
        self.before = Some(match self.before {
            Some((before, _)) if now < before => (now, facts.at_ms),
            Some((before, lowered_ms)) if now > before => {
                let since_ms = facts.at_ms.saturating_sub(lowered_ms);
                if since_ms < quantum_ms {
                    let rest = words((quantum_ms - since_ms).div_ceil(1000));
                    let why = format!("stopped {} s ago; it goes on in {rest}", since_ms / 1000);
                    let change = "the end of the quantum, or ctl set quantum_s=N";
                    opinions.push(Opinion::new(Rule::Quantum, before, why, change));
                    (before, lowered_ms)
                } else {
                    (now, lowered_ms)
                }
            }
            Some(same) => same,
            // Nothing was stopped yet.
            None => (now, facts.at_ms.saturating_sub(quantum_ms)),
        });
        opinions
    }

    fn temperature(&mut self, rules: &Rules, facts: &Facts) -> Option<Opinion> {
        let limit = f64::from(rules.max_temperature_c?);
        let now = facts.temperature_c?;
        self.hot = now >= if self.hot { limit - COOLER } else { limit };
        self.hot.then(|| {
            let why = format!("{now:.0} °C, the limit is {limit:.0} °C");
            let change = format!("less than {:.0} °C", limit - COOLER);
            Opinion::new(Rule::Temperature, 0, why, change)
        })
    }

    fn power(&mut self, rules: &Rules, facts: &Facts) -> Option<Opinion> {
        let limit = f64::from(rules.max_power_w?);
        let now = facts.power_w?;
        self.hungry = now >= if self.hungry { limit * RELIEF } else { limit };
        self.hungry.then(|| {
            let why = format!("{now:.0} W, the limit is {limit:.0} W");
            Opinion::new(Rule::Power, 0, why, format!("less than {:.0} W", limit * RELIEF))
        })
    }

    fn pressure(&mut self, rules: &Rules, facts: &Facts, in_use: usize) -> Option<Opinion> {
        let limit = f64::from(rules.cpu_pressure_pct?);
        let now = facts.cpu_pressure_pct?;
        self.pressed = now >= if self.pressed { limit * RELIEF } else { limit };
        self.pressed.then(|| {
            let why =
                format!("programs wait for a processor {now:.0} % of the time (limit {limit:.0})");
            Opinion::new(Rule::Pressure, in_use, why, format!("less than {:.0} %", limit * RELIEF))
        })
    }

    fn load(&mut self, rules: &Rules, facts: &Facts, in_use: usize) -> Option<Opinion> {
        if rules.busy_pct >= 100 {
            return None;
        }
        let Some(load) = facts.others_load else {
            let why = "what others do on the processors is not known yet";
            return (!self.quiet).then(|| {
                Opinion::new(Rule::Load, in_use, why, "two looks at /proc/stat, a second apart")
            });
        };
        let pct = load / facts.processors.len().max(1) as f64 * 100.0;
        if pct >= f64::from(rules.busy_pct) {
            (self.quiet, self.quiet_since_ms) = (false, None);
        } else if pct < f64::from(rules.load_pct) {
            let since = *self.quiet_since_ms.get_or_insert(facts.at_ms);
            let quiet_ms = facts.at_ms.saturating_sub(since);
            self.quiet |= quiet_ms >= u64::from(rules.quiet_s) * 1000;
        } else {
            self.quiet_since_ms = None;
        }
        (!self.quiet).then(|| {
            let below = rules.load_pct;
            let why = match self.quiet_since_ms {
                Some(since) => format!(
                    "others take {pct:.0} % of the processors, below {below} % for {} s of {} s",
                    facts.at_ms.saturating_sub(since) / 1000,
                    rules.quiet_s
                ),
                None => format!("others take {pct:.0} % of the processors"),
            };
            let change = format!("less than {below} % for {} s", rules.quiet_s);
            Opinion::new(Rule::Load, in_use, why, change)
        })
    }
}

fn unseen(facts: &Facts) -> Option<Opinion> {
    (facts.unseen_s > 0).then(|| {
        let why = format!("the machine could not be looked at for {}", words(facts.unseen_s));
        Opinion::new(Rule::Unseen, 0, why, "an end to whatever hangs (sensors, /proc, the engine)")
    })
}

fn battery(rules: &Rules, facts: &Facts) -> Option<Opinion> {
    (facts.on_battery == Some(true) && !rules.on_battery).then(|| {
        let change = "mains, or ctl set on_battery=true";
        Opinion::new(Rule::Battery, 0, "the machine runs on its battery", change)
    })
}

fn schedule(rules: &Rules, facts: &Facts, all: usize) -> Option<Opinion> {
    if rules.schedule.is_empty() {
        return None;
    }
    let windows: Vec<_> = rules.schedule.iter().map(ToString::to_string).collect();
    let windows = windows.join(", ");
    let Some(now) = facts.local else {
        let why = "the local time is not known, and there is a schedule";
        return Some(Opinion::new(Rule::Schedule, 0, why, "a time zone for this machine (TZ)"));
    };
    let clock = format!("{:02}:{:02}", now.minute / 60, now.minute % 60);
    match rules.schedule.iter().find(|window| window.holds(now)) {
        None => {
            let why = format!("it is {clock}, outside of {windows}");
            Some(Opinion::new(Rule::Schedule, 0, why, format!("the time: {windows}")))
        }
        Some(window) => {
            let pct = window.value.map_or(100.0, |value| value.get()).min(100.0);
            let most = share(all, pct as u8);
            (most < all).then(|| {
                let why = format!("{pct:.0} % at this time ({window})");
                Opinion::new(Rule::Schedule, most, why, format!("the time: {windows}"))
            })
        }
    }
}

fn input(rules: &Rules, facts: &Facts, in_use: usize) -> Option<Opinion> {
    let idle = facts.input_idle_s?;
    let wanted = u64::from(rules.input_s);
    (idle < wanted).then(|| {
        let why = format!("somebody used this machine {} ago", words(idle));
        let change = format!("{} without input", words(wanted));
        Opinion::new(Rule::Input, in_use, why, change)
    })
}
