//! What can happen to the simulated site, drawn by its seed.

use super::{Weather, World, board};
use crate::ids::{BoardId, VoterSet};

impl World {
    /// A random fault, the holder being the favourite victim.
    pub(in crate::election) fn misfortune(&mut self) {
        let victim = match self.holder() {
            Some((holder, _)) if self.draw(2) == 0 => holder,
            Some(_) | None => board(self.draw(u64::from(self.boards)) as u8 + 1),
        };
        let other = board(self.draw(u64::from(self.boards)) as u8 + 1);
        match self.draw(34) {
            0..=3 => self.isolate(victim),
            4 | 5 => self.cut(victim, other),
            6 | 7 => {
                self.cut(victim, other);
                self.cut(other, victim);
            }
            8..=11 => self.heal(),
            12..=14 => {
                let micros = 5_000 + self.draw(1_000_000);
                self.crash(victim, micros);
            }
            15 | 16 => self.freeze_for_a_while(victim),
            17 | 18 => {
                let micros = 5_000 + self.draw(60_000);
                self.isolate(victim);
                self.crash_all_but(victim, micros);
            }
            19 | 20 => {
                let micros = self.draw(400_000);
                self.stop(victim, micros);
            }
            21 | 22 => self.change_weather(),
            23..=25 => {
                let micros = 5_000 + self.draw(400_000);
                self.crash_attested(victim, micros);
            }
            26 => {
                self.hand_over(None);
            }
            27 | 28 => self.wish_something(),
            29 | 30 => self.strike_a_witness(),
            31 | 32 => {
                // A disk is not replaced while its leases run: but its directory may be deleted, and the board starts again.
                let micros = 1_000 + self.draw(100_000);
                self.replace_disk(victim, micros);
            }
            _ => {
                let micros = 5_000 + self.draw(60_000);
                self.crash_all_but(other, micros);
                self.crash(other, micros);
            }
        }
    }

    /// An odd number of voters, the holder and the first witness among them where there is one.
    fn wish_something(&mut self) {
        let Some((holder, _)) = self.holder() else { return };
        let mut voters = VoterSet::from_iter([holder.into()]);
        if let Some(witness) = self.machines.keys().copied().find(|id| id.witness().is_some()) {
            voters.insert(witness);
        }
        for number in 1..=self.boards {
            if self.draw(3) > 0 {
                voters.insert(board(number).into());
            }
        }
        if voters.len() % 2 == 1 && voters.len() <= 5 {
            self.wish(voters);
        }
    }

    fn strike_a_witness(&mut self) {
        let Some(victim) = self.machines.keys().copied().rfind(|id| id.witness().is_some()) else {
            return;
        };
        match self.draw(4) {
            0 => self.isolate(victim),
            1 => self.freeze(victim, 500_000),
            2 => self.replace_disk(victim, 1_000),
            _ => self.crash(victim, 100_000),
        }
    }

    fn freeze_for_a_while(&mut self, victim: BoardId) {
        let micros = 50_000 + self.draw(900_000);
        self.freeze(victim, micros);
    }

    fn crash_all_but(&mut self, spared: BoardId, micros: u64) {
        for victim in (1..=self.boards).map(board).filter(|victim| *victim != spared) {
            self.crash(victim, micros);
        }
    }

    fn change_weather(&mut self) {
        self.weather = Weather {
            loss_permille: self.draw(4) * 100,
            repeat_permille: self.draw(3) * 50,
            late_permille: self.draw(4) * 100,
        };
    }
}
