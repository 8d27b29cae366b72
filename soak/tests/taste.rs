//! A soak of some seconds.

use std::process::Command;

#[test]
fn a_taste_of_the_soak_is_sound() {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_everbeat-soak"));
    let output = soak.args(["--seconds", "4", "--timers", "200"]).output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("verdict: sound"), "{told}{errors}");
}
