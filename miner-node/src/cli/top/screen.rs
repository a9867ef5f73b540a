//! The picture in a terminal.

use protocol::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::widgets::{Block, Gauge, Paragraph};

use super::snapshot::Snapshot;
use super::words::{self, Part};

/// Rows of a frame's border.
const BORDER: usize = 2;

/// The last line.
const KEYS: &str = " q: quit   miner-node why: reasons   miner-node ctl: rules";

/// Draws `now`. `trouble` is why there is nothing newer.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    now: &Snapshot,
    before: Option<&Snapshot>,
    at: Timestamp,
    trouble: Option<&str>,
) {
    let parts = words::parts(now, before);
    let mut rows = vec![Constraint::Length(1)];
    rows.extend(parts.iter().map(height));
    rows.extend([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]);
    let areas = Layout::vertical(rows).split(frame.area());
    frame.render_widget(Paragraph::new(words::head(now, at)).bold(), areas[0]);
    for (part, area) in parts.iter().zip(&areas[1..]) {
        block(frame, part, *area);
    }
    gauges(frame, now, before, areas[parts.len() + 1]);
    let last = match trouble {
        Some(why) => Paragraph::new(format!(" {why}")).red(),
        None => Paragraph::new(KEYS).dim(),
    };
    frame.render_widget(last, areas[areas.len() - 1]);
}

/// Jobs may be many: they give way first.
fn height(part: &Part) -> Constraint {
    let rows = u16::try_from(part.lines.len().max(1) + BORDER).unwrap_or(u16::MAX);
    match part.title {
        "jobs" => Constraint::Max(rows),
        _ => Constraint::Length(rows),
    }
}

fn block(frame: &mut Frame<'_>, part: &Part, area: Rect) {
    let room = usize::from(area.height).saturating_sub(BORDER);
    let mut lines = part.lines.clone();
    if lines.len() > room && room > 0 {
        let more = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!(".. and {more} more"));
    }
    let text = Paragraph::new(lines.join("\n"));
    frame.render_widget(text.block(Block::bordered().title(part.title.bold())), area);
}

/// How full processors and memory are.
fn gauges(frame: &mut Frame<'_>, now: &Snapshot, before: Option<&Snapshot>, area: Rect) {
    let Some(machine) = &now.machine else { return };
    let earlier = before.and_then(|before| before.machine.as_ref());
    let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(1);
    let halves = halves.split(area);
    let full = [("cpu", machine.busy(earlier)), ("memory", machine.memory_used())];
    for ((name, part), area) in full.into_iter().zip(halves.iter()) {
        let Some(part) = part else { continue };
        let style = Style::new().fg(colour(part)).bg(Color::DarkGray);
        let gauge = Gauge::default().gauge_style(style).ratio(part);
        frame.render_widget(gauge.label(format!("{name} {:.0} %", part * 100.0)), *area);
    }
}

fn colour(part: f64) -> Color {
    match part {
        part if part < 0.7 => Color::Green,
        part if part < 0.9 => Color::Yellow,
        _ => Color::Red,
    }
}
