//! Memory that could be had, and how much is waited for it and for processors.

/// `MemAvailable` of `/proc/meminfo`, in MiB.
pub(super) fn available_mb(text: &str) -> Option<u64> {
    mb(text, "MemAvailable:")
}

/// `MemTotal` of the same, in MiB.
pub(super) fn total_mb(text: &str) -> Option<u64> {
    mb(text, "MemTotal:")
}

fn mb(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// In how much of the last ten seconds something waited, in per cent, of a file below
/// `/proc/pressure`.
pub(super) fn pressure(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = line.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    average.parse().ok().filter(|pct: &f64| (0.0..=100.0).contains(pct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_lines() {
        let meminfo = "MemTotal:       24689776 kB\nMemFree:         1034040 kB\n\
                       MemAvailable:   23068672 kB\nBuffers:          123 kB\n";
        assert_eq!((available_mb(meminfo), total_mb(meminfo)), (Some(22528), Some(24111)));
        let psi = "some avg10=95.96 avg60=97.04 avg300=86.65 total=20062659842\n\
                   full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(pressure(psi), Some(95.96));
    }

    #[test]
    fn anything_else_is_unknown() {
        for odd in ["", "MemAvailable: lots\n", "MemAvailable: 5 MB", "MemTotal: 7 kB\n"] {
            assert_eq!(available_mb(odd), None, "{odd:?}");
        }
        for odd in [
            "",
            "full avg10=1.00",
            "some avg60=1.00",
            "some avg10=x",
            "some avg10=NaN",
            "some avg10=-1",
        ] {
            assert_eq!(pressure(odd), None, "{odd:?}");
        }
    }
}
