use super::{complaint, speedy};

#[test]
fn a_move_within_a_group_is_refused() {
    let refused = complaint(&speedy(&["cluster", "move", "--from", "1", "--to", "1"]), 2);
    assert!(refused.contains("--from and --to are both group 1"), "{refused}");
}
