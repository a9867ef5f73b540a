//! The node in Prometheus' text format. Everything is read when it is asked for: nothing is counted
//! twice, and nothing grows where nobody asks. Counters of jobs and of mining go on over restarts.

use mining::policy::Memory;

use super::view::View;
use crate::sharing::Standing;
use page::{Page, yes};

mod hashing;
mod machine;
mod page;
mod work;

/// All metrics, with their meaning.
pub(super) fn text(view: &View) -> String {
    let mut page = Page::new();
    work::write(&mut page, view);
    sharing(&mut page, &view.sharing);
    if let Some(engine) = &view.sharing.engine {
        hashing::write(&mut page, engine, &view.totals.mined);
    }
    if let Some(machine) = &view.machine {
        machine::write(&mut page, machine);
    }
    page.into_text()
}

fn sharing(page: &mut Page, sharing: &Standing) {
    if let Some(slots) = sharing.effective_task_slots {
        let help = "Jobs at once, as their durations have it";
        page.gauge("aitbc_node_effective_task_slots", help, slots.into());
    }
    if let Some(load) = sharing.facts.others_load {
        let help = "Processors that neither mining nor jobs keep busy";
        page.gauge("aitbc_node_others_load", help, load);
    }
    if let Some(decision) = &sharing.decision {
        page.gauge(
            "aitbc_node_takes_jobs",
            "1 while the owner's rules let jobs be taken",
            yes(decision.takes_jobs()),
        );
        let device = |rule: &str, device: &str| format!("{{device=\"{device}\",rule=\"{rule}\"}}");
        page.family("aitbc_node_rule", "gauge", "The rule that decides, by device");
        page.line("aitbc_node_rule", &device(decision.cpu.rule.as_str(), "cpu"), 1.0);
        page.line("aitbc_node_rule", &device(decision.gpu.rule.as_str(), "gpu"), 1.0);
        let help = "Threads that may mine";
        page.gauge("aitbc_mining_threads_allowed", help, decision.threads as f64);
        page.gauge(
            "aitbc_mining_memory_given_back",
            "1 while the dataset's memory belongs to others",
            yes(decision.memory == Memory::GiveBack),
        );
        page.gauge(
            "aitbc_mining_gpu_intensity_ratio",
            "Intensity that a GPU miner may have",
            decision.gpu_intensity() as f64 / 100.0,
        );
    }
    let help = "Jobs that arrived while something was mined";
    page.counter("aitbc_mining_preemptions_total", help, sharing.preemptions as f64);
    page.counter(
        "aitbc_mining_parking_seconds_total",
        "Time until mining threads had let go for them",
        sharing.parking_ms.0 * sharing.preemptions as f64 / 1000.0,
    );
    let help = "The longest of these times";
    page.gauge("aitbc_mining_parking_seconds_max", help, sharing.parking_ms.1 / 1000.0);
}
