//! On what kind of pages a dataset lies: the largest difference there is. On small ones each read
//! of the dataset costs a walk through the page table, and the hashrate is about 0.6 of the best.

use std::fmt;
use std::fs;

use super::Mode;

/// What pages a dataset lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Large ones, reserved or surplus.
    Huge,
    /// Large ones that the kernel put together, so many in a hundred.
    Transparent {
        /// The share, in percent.
        percent: u8,
    },
    /// Small ones.
    Small,
}

impl Pages {
    pub(super) fn of(mode: Mode, advised: bool, (start, length): (usize, usize)) -> Self {
        if mode.reserved_pages {
            return Self::Huge;
        }
        let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        match transparent_percent(&maps, start, length) {
            Some(percent) if percent > 0 => Self::Transparent { percent },
            // Where /proc cannot tell, the kernel's word counts.
            None if advised => Self::Transparent { percent: 100 },
            _ => Self::Small,
        }
    }

    /// Whether less than half of the dataset lies on large pages.
    pub const fn is_slow(self) -> bool {
        match self {
            Self::Huge => false,
            Self::Transparent { percent } => percent < 50,
            Self::Small => true,
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Huge => f.write_str("huge 100 %"),
            Self::Transparent { percent } => write!(f, "thp {percent} %"),
            Self::Small => f.write_str("4 KiB"),
        }
    }
}

/// How much of the `length` bytes from `start` on lies on transparent large pages, in percent, by
/// the kernel's list of mappings (proc_pid_smaps(5)). `None` where the list does not have them.
fn transparent_percent(maps: &str, start: usize, length: usize) -> Option<u8> {
    let (mut huge, mut inside, mut seen) = (0_u64, false, false);
    for line in maps.lines() {
        if let Some(range) = mapping(line) {
            inside = range.0 < start.saturating_add(length) && range.1 > start;
            seen |= inside;
        } else if let Some(kib) = line.strip_prefix("AnonHugePages:").filter(|_| inside) {
            huge += kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
        }
    }
    let percent = (u128::from(huge) * 100).checked_div(length as u128)?;
    seen.then(|| u8::try_from(percent.min(100)).unwrap_or(100))
}

fn mapping(line: &str) -> Option<(usize, usize)> {
    let (start, rest) = line.split_once('-')?;
    let (end, _) = rest.split_once(' ')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 
Size:               4096 kB
AnonHugePages:      2048 kB
7f0000400000-7f0000800000 rw-p 00000000 00:00 0 
AnonHugePages:      4096 kB
";

    #[test]
    fn shares_come_from_the_kernels_list() {
        let start = 0x7f00_0000_0000;
        assert_eq!(transparent_percent(MAPS, start, 4 << 20), Some(50));
        assert_eq!(transparent_percent(MAPS, start, 8 << 20), Some(75));
        assert_eq!(transparent_percent(MAPS, start + (4 << 20), 4 << 20), Some(100));
        assert_eq!(transparent_percent(MAPS, 0x1000, 4096), None);
        assert_eq!(transparent_percent("", start, 0), None);
    }

    #[test]
    fn what_is_in_force_can_be_read() {
        assert_eq!(Pages::Transparent { percent: 98 }.to_string(), "thp 98 %");
        assert!(Pages::Transparent { percent: 49 }.is_slow() && Pages::Small.is_slow());
        assert!(!Pages::Huge.is_slow());
    }
}
