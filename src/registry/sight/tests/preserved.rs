//! Self-preservation, which looking at instances ends: in small groups too, and the last of a service with the others.

use super::*;

#[test]
fn all_of_a_service_that_are_gone_go_when_their_machines_say_so_the_last_too() {
    let mut stage = Stage::new(refuses);
    for id in ["a", "b", "c"] {
        stage.register(id, |_| {});
    }
    stage.run(TTL_MS + 1000);
    assert!(stage.registry.is_preserving(), "too many are silent with them");
    stage.run(9000);
    assert_eq!(
        (stage.status("a"), stage.registry.is_preserving()),
        (Some(Status::Down), false),
        "their silence proves nothing, their machines do"
    );
    stage.run(EVICT_MS);
    assert_eq!(["a", "b", "c"].map(|id| stage.status(id)), [None; 3]);
}

#[test]
fn of_five_that_were_silent_the_one_that_stays_so_goes_soon() {
    let mut stage = Stage::new(times_out);
    let (live, dead) = (["a", "b", "c", "d"], "e");
    for id in live.into_iter().chain([dead]) {
        stage.register(id, |_| {});
    }
    stage.run(TTL_MS + 1000);
    assert!(stage.registry.is_preserving());
    for _ in 0..32 {
        for id in live {
            stage.beat(id);
        }
        stage.run(1000);
    }
    assert_eq!((stage.status(dead), stage.registry.is_preserving()), (Some(Status::Down), false));
    for _ in 0..6 {
        for id in live {
            stage.beat(id);
        }
        stage.run(1000);
    }
    assert_eq!(stage.status(dead), None);
    assert!(live.iter().all(|id| stage.status(id) == Some(Status::Up)));
}

#[test]
fn those_that_are_down_are_not_called_back_where_the_well_ones_around_them_leave() {
    let mut stage = Stage::new(times_out);
    let silent = ["1", "2", "3"];
    let well: Vec<String> = (b'a'..=b'u').map(|byte| char::from(byte).to_string()).collect();
    for id in silent {
        stage.register(id, |draft| draft.evict_after_ms = Some(60_000));
    }
    for id in &well {
        stage.register(id, |_| {});
    }
    for _ in 0..15 {
        stage.run(1000);
        for id in &well {
            stage.beat(id);
        }
    }
    assert!(silent.iter().all(|id| stage.status(id) == Some(Status::Down)));
    for id in &well {
        stage.feed(Input::Deregister(3, Deregister { key: key(id), incarnation: None, actor: None, ack: Ack::Local }));
    }
    stage.run(30_000);
    assert!(silent.iter().all(|id| stage.status(id) == Some(Status::Down)), "that others leave says nothing of them");
    stage.run(40_000);
    assert!(silent.iter().all(|id| stage.status(id).is_none()));
}

#[test]
fn the_last_of_another_service_goes_while_some_are_preserved() {
    let mut stage = Stage::new(times_out);
    let of_service = |name: &str, id: &str| InstanceKey {
        service: ServiceKey { namespace: Namespace::default(), service: ServiceName::parse(name).unwrap() },
        id: InstanceId::parse(id).unwrap(),
    };
    let well: Vec<InstanceKey> = (0..30).map(|number| of_service("well", &format!("w{number}"))).collect();
    let alone = of_service("alone", "x");
    for id in ["a", "b", "c"] {
        stage.register(id, |_| {});
    }
    let mut draft = RegistrationDraft::new(Address::parse("10.0.2.1").unwrap(), Port::new(80).unwrap(), Ttl::from_ms(TTL_MS).unwrap());
    draft.evict_after_ms = Some(EVICT_MS as u32);
    for (number, key) in well.iter().chain([&alone]).enumerate() {
        draft.port = Port::new(1000 + number as u16).unwrap();
        let registration = Arc::new(Registration::new(draft.clone()).unwrap());
        stage.feed(Input::Register(1, Register::new(key.clone(), registration, stage.now.mono)));
    }
    let live = |stage: &mut Stage, seconds: u64, with: &[InstanceKey]| {
        for _ in 0..seconds {
            stage.run(1000);
            for key in well.iter().chain(with) {
                let at = stage.now.mono;
                stage.feed(Input::Heartbeat(2, Heartbeat { key: key.clone(), incarnation: None, digest: None, reported: None, at }));
            }
        }
    };
    live(&mut stage, 15, std::slice::from_ref(&alone));
    live(&mut stage, 25, &[]);
    assert_eq!((stage.status("a"), stage.registry.is_preserving()), (Some(Status::Suspect), true));
    assert!(stage.registry.record(&alone).unwrap().registration().is_none());
}
