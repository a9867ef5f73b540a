//! How much is waited for memory and for processors.

/// In how much of the last ten seconds something waited, in per cent, of a file below
/// `/proc/pressure`.
pub(super) fn some(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = line.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    average.parse().ok().filter(|pct: &f64| (0.0..=100.0).contains(pct))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_lines() {
        let psi = "some avg10=95.96 avg60=97.04 avg300=86.65 total=20062659842\n\
                   full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some(psi), Some(95.96));
    }

    #[test]
    fn anything_else_is_unknown() {
        for odd in [
            "",
            "full avg10=1.00",
            "some avg60=1.00",
            "some avg10=x",
            "some avg10=NaN",
            "some avg10=-1",
        ] {
            assert_eq!(some(odd), None, "{odd:?}");
        }
    }
}
