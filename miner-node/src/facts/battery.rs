//! Whether the machine runs on its battery.

use std::path::Path;

use super::{below, text};

/// `None` where the kernel does not tell; a machine without battery never does.
pub(super) fn on_battery(root: &Path) -> Option<bool> {
    let (mut has_battery, mut discharging, mut plugged) = (false, false, false);
    for supply in below(&root.join("sys/class/power_supply"))? {
        let file = |name: &str| text(&supply.join(name)).map(|text| text.trim().to_owned());
        match file("type").as_deref() {
            // Those of a mouse or a telephone are no concern of ours.
            Some("Battery") if file("scope").as_deref() != Some("Device") => {
                has_battery = true;
                discharging |= file("status").as_deref() == Some("Discharging");
            }
            Some("Mains" | "USB") => plugged |= file("online").as_deref() == Some("1"),
            _ => {}
        }
    }
    // A battery may discharge at the mains, too: under load, or to be kept well.
    Some(has_battery && discharging && !plugged)
}
