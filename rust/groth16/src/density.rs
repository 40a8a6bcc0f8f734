//! Which variables a query of the parameters has a point for.

use anyhow::Result;

use crate::memory::reserved;

const BITS: usize = u64::BITS as usize;

/// A growing set of variables, by index. A query holds a point for each member, in ascending order.
#[derive(Debug, Default)]
pub struct Density {
    words: Vec<u64>,
    members: usize,
}

impl Density {
    /// A set with room for `variables`, so that it need not grow. An error if there is no memory for it.
    pub fn with_capacity(variables: usize) -> Result<Self> {
        Ok(Self {
            words: reserved(variables.div_ceil(BITS))?,
            members: 0,
        })
    }

    pub fn insert(&mut self, index: usize) {
        let word = index / BITS;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (index % BITS);
        self.members += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Takes over the members of `other`, each at the place `place` gives it.
    pub fn extend(&mut self, other: &Self, place: impl Fn(usize) -> usize) {
        for (number, word) in other.words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                self.insert(place(number * BITS + left.trailing_zeros() as usize));
                left &= left - 1;
            }
        }
    }

    pub fn contains(&self, index: usize) -> bool {
        let word = self.words.get(index / BITS);
        word.is_some_and(|word| word & (1 << (index % BITS)) != 0)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_once() {
        let mut density = Density::with_capacity(10).unwrap();
        for index in [0, 63, 64, 700, 63, 0] {
            density.insert(index);
        }
        assert_eq!(density.len(), 4);
        let members: Vec<usize> = (0..1000).filter(|&i| density.contains(i)).collect();
        assert_eq!(members, [0, 63, 64, 700]);
    }

    #[test]
    fn members_of_another_set_are_moved_to_their_places() {
        let mut density = Density::default();
        density.insert(5);
        let mut other = Density::default();
        other.insert(0);
        other.insert(64);
        density.extend(&other, |index| index + 5);
        let members: Vec<usize> = (0..1000).filter(|&i| density.contains(i)).collect();
        assert_eq!(members, [5, 69]);
        assert_eq!(density.len(), 2);
    }
}
