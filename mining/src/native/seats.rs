//! Which lane runs on which processor. A lane that is on a good one stays there.

/// The processor of each lane; `None` for those that are parked. `pins` is where each is bound now.
/// With more threads than processors, some share one; without any processors, nobody runs.
pub(super) fn seat(pins: &[usize], processors: &[usize], threads: usize) -> Vec<Option<usize>> {
    let mut free: Vec<usize> = processors.to_vec();
    let mut seats = vec![None; pins.len()];
    let mut left = threads.min(if processors.is_empty() { 0 } else { pins.len() });
    for (seat, pin) in seats.iter_mut().zip(pins) {
        if let Some(place) = free.iter().position(|processor| processor == pin)
            && left > 0
        {
            *seat = Some(free.remove(place));
            left -= 1;
        }
    }
    let mut others = free.into_iter().chain(processors.iter().copied().cycle());
    for seat in seats.iter_mut().filter(|seat| seat.is_none()).take(left) {
        *seat = others.next();
    }
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_stay_where_they_may() {
        let pins = [0, 1, 2, 3];
        assert_eq!(seat(&pins, &[0, 1, 2, 3], 2), [Some(0), Some(1), None, None]);
        // Jobs took processors 0 and 1: nobody has to move.
        assert_eq!(seat(&pins, &[2, 3], 2), [None, None, Some(2), Some(3)]);
        assert_eq!(seat(&pins, &[3], 4), [Some(3), Some(3), Some(3), Some(3)]);
    }

    #[test]
    fn lanes_move_where_they_must() {
        assert_eq!(seat(&[0, 1], &[1, 7], 2), [Some(7), Some(1)]);
        assert_eq!(seat(&[0, 0], &[4, 5], 1), [Some(4), None]);
        assert_eq!(seat(&[0, 0], &[0, 1], 2), [Some(0), Some(1)]);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(seat(&[0, 1], &[], 2), [None, None]);
        assert_eq!(seat(&[0, 1], &[0, 1], 0), [None, None]);
        assert_eq!(seat(&[], &[0], 3), []);
    }
}
