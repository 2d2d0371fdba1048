//! What holds of every key.

use super::*;

#[test]
fn every_key_reads_back_what_it_shows() {
    let mut config = Config::default();
    for key in KEYS {
        let Some(shown) = (key.show)(&config) else { continue };
        (key.set)(&mut config, &Given::Text(shown.clone())).unwrap_or_else(|rule| panic!("{}: {rule}", key.path));
        assert_eq!((key.show)(&config), Some(shown), "{}", key.path);
    }
}

#[test]
fn every_key_refuses_something_and_then_changes_nothing() {
    let before = Config::default();
    for key in KEYS {
        let mut config = before.clone();
        let nonsense = Given::List(vec!["\0 not a value".to_owned()]);
        assert!((key.set)(&mut config, &nonsense).is_err(), "{}", key.path);
        assert_eq!((key.show)(&config), (key.show)(&before), "{}", key.path);
    }
}

#[test]
fn names_of_variables_are_different() {
    let mut names: Vec<_> = KEYS.iter().flat_map(Key::variables).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
