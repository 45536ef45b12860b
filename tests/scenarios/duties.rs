//! Users' duties: where they are performed, and what becomes of them with their board, their leader and the majority.

use shared::config::{DutyConfig, DutyMode};
use shared::ids::{BoardId, Name};
use shared::wire::uplink::DutyState;
use tests::settings::Settings;
use tests::world::World;

use crate::{board, ends_well, reaches, settle};

const SIGNAL: u8 = 0;
const INFER: u8 = 1;

/// Three boards that can all perform an exclusive duty and an available one, and do.
fn performing(seed: u64) -> World {
    let duty = |name: &str, mode| DutyConfig {
        name: Name::try_from(name).expect("a short name"),
        mode,
        standby: true,
        is_local: true,
    };
    let mut settings = Settings::quiet(seed, 3, 2);
    settings.duties = vec![duty("signal", DutyMode::Exclusive), duty("infer", DutyMode::Available { active: 1 })];
    let mut world = settle(settings);
    let begun = reaches(&mut world, 4_000, |world| world.acting(SIGNAL).len() == 1 && world.acting(INFER).len() == 1);
    assert_eq!(begun, Ok(true), "nobody performs the duties");
    world
}

fn holder(world: &World) -> BoardId {
    world.acting(SIGNAL)[0]
}

#[test]
fn an_exclusive_duty_is_performed_by_another_when_its_board_is_gone() {
    for seed in 1..=6 {
        let mut world = performing(seed);
        let old = holder(&world);
        world.keep_down(old);
        world.crash_unseen(old);
        let moved = reaches(&mut world, 3_000, |world| world.acting(SIGNAL).first().is_some_and(|new| *new != old));
        assert_eq!(moved, Ok(true), "seed {seed}: {old} is dead and nobody took its duty");
        let is_told = reaches(&mut world, 3_000, |world| {
            let told = world.duty_told(SIGNAL);
            told.is_some_and(|told| told.state == DutyState::Running && told.holders.iter().eq(world.acting(SIGNAL)))
        });
        assert_eq!(is_told, Ok(true), "seed {seed}: the region believes {:?}", world.duty_told(SIGNAL));
        ends_well(&mut world);
    }
}

#[test]
fn a_minority_stops_its_exclusive_duty_and_keeps_its_available_one() {
    for seed in 1..=6 {
        let mut world = performing(seed);
        let alone = holder(&world);
        let others: Vec<BoardId> = (1..=3).map(board).filter(|other| *other != alone).collect();
        for other in &others {
            world.cut_way(alone, *other);
            world.cut_way(*other, alone);
        }
        let ended = reaches(&mut world, 1_500, |world| !world.acting(SIGNAL).contains(&alone));
        assert_eq!(ended, Ok(true), "seed {seed}: {alone} has no majority and acts");
        let moved = reaches(&mut world, 3_000, |world| world.acting(SIGNAL).len() == 1);
        assert_eq!(moved, Ok(true), "seed {seed}: the majority does not go on");
        // Both parts do what may be done twice: the lone board begins of its own accord after a while.
        let both = reaches(&mut world, 4_000, |world| {
            let acting = world.acting(INFER);
            acting.contains(&alone) && acting.iter().any(|board| *board != alone)
        });
        assert_eq!(both, Ok(true), "seed {seed}: {:?} of {alone} apart perform it", world.acting(INFER));
        for other in &others {
            world.mend_way(alone, *other);
            world.mend_way(*other, alone);
        }
        ends_well(&mut world);
    }
}
