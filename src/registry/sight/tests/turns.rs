//! Turns: one that has very many checks takes nobody else's.

use super::*;

/// Registers so many instances of a namespace, with a check or without; their ports begin there.
fn register_many(stage: &mut Stage, namespace: &str, count: u16, port: u16, is_checked: bool) {
    for number in 0..count {
        let service = ServiceKey { namespace: Namespace::parse(namespace).unwrap(), service: ServiceName::parse("user").unwrap() };
        let ttl = Ttl::from_ms(if is_checked { 3_600_000 } else { TTL_MS }).unwrap();
        let place = Port::new(port + number).unwrap();
        let mut draft = RegistrationDraft::new(Address::parse("10.0.3.1").unwrap(), place, ttl);
        draft.evict_after_ms = Some(3_600_000);
        draft.check = is_checked.then(|| check(CheckKind::Tcp { port: None }));
        let key = InstanceKey { service, id: InstanceId::parse(&format!("i{number}")).unwrap() };
        stage.feed(Input::Register(1, Register::new(key, Arc::new(Registration::new(draft).unwrap()), stage.now.mono)));
    }
}

#[test]
fn whoever_has_very_many_checks_waits_for_itself_alone() {
    const NOISY: u16 = 10_000;
    // A fifteenth of what one namespace asks for.
    let mut stage = Stage::with(times_out, ProbeLimits { in_flight: 8, per_second: 20 });
    register_many(&mut stage, "noisy", 600, NOISY, true);
    register_many(&mut stage, "quiet", 1, 80, true);
    stage.run(20_000);
    let of = |stage: &Stage, port: u16| stage.probes.iter().filter(|(_, probe)| probe.port.get() == port).count();
    assert!(of(&stage, 80) >= 8, "it is looked at every two seconds: {}", of(&stage, 80));
    assert!((250..=400).contains(&stage.probes.len()), "no more a second than may be, and no fewer: {}", stage.probes.len());
    let noisy = (0..600).filter(|number| of(&stage, NOISY + number) > 1).count();
    assert_eq!(noisy, 0, "each of the others has its turn before any has a second one");
    // Silent ones go before what is only watched, and they too have their turns.
    register_many(&mut stage, "silent", 300, 20_000, false);
    stage.register("a", |_| {});
    stage.run(TTL_MS + 18_000);
    assert_eq!(stage.status("a"), Some(Status::Suspect), "it is preserved: so many are silent with it");
    assert!(of(&stage, 80) >= 12, "what is only watched has its share");
    let tries = stage.probes.iter().filter(|(_, probe)| probe.address.as_str() == "10.0.1.97").count();
    assert!(tries >= 6, "all that it takes to judge it: {tries}");
}

#[test]
fn what_has_ended_counts_until_its_probe_has_come_back() {
    let mut stage = Stage::with(times_out, ProbeLimits { in_flight: 4, per_second: 1000 });
    stage.is_mute = true;
    for round in 0..5 {
        register_many(&mut stage, "noisy", 10, 1000, true);
        stage.run(2500);
        for number in 0..10 {
            let service = ServiceKey { namespace: Namespace::parse("noisy").unwrap(), service: ServiceName::parse("user").unwrap() };
            let key = InstanceKey { service, id: InstanceId::parse(&format!("i{number}")).unwrap() };
            stage.feed(Input::Deregister(3, Deregister { key, incarnation: None, actor: None, ack: Ack::Local }));
        }
        assert_eq!(stage.probes.len(), 3, "round {round}: none of them has come back");
    }
}
