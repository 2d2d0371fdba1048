//! Digests: 4,096 buckets of wrapping sums, so that two nodes can tell in one number whether they agree, and in a few where they do not.

/// How many buckets the keys are spread over.
pub const BUCKETS: usize = 4096;

/// Wrapping sums of fingerprints by bucket. Adding and taking away are O(1) and commute, so order never matters.
///
/// A sum and not an exclusive or: of two equal fingerprints an exclusive or would see none.
#[derive(Debug, Clone)]
pub(super) struct Buckets {
    sums: Vec<u128>,
    total: u128,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Self { sums: vec![0; BUCKETS], total: 0 }
    }

    /// The bucket of a key whose hash this is.
    pub(super) fn bucket_of(key_hash: u128) -> u16 {
        (key_hash >> (128 - BUCKETS.trailing_zeros())) as u16
    }

    pub(super) fn add(&mut self, bucket: u16, fingerprint: u128) {
        let sum = &mut self.sums[usize::from(bucket)];
        *sum = sum.wrapping_add(fingerprint);
        self.total = self.total.wrapping_add(fingerprint);
    }

    pub(super) fn take(&mut self, bucket: u16, fingerprint: u128) {
        self.add(bucket, fingerprint.wrapping_neg());
    }

    /// Of all buckets together.
    pub(super) fn total(&self) -> u128 {
        self.total
    }

    /// Those that are not 0, by number.
    pub(super) fn occupied(&self) -> Vec<(u16, u128)> {
        self.sums.iter().enumerate().filter(|(_, sum)| **sum != 0).map(|(bucket, sum)| (bucket as u16, *sum)).collect()
    }

    /// This bucket's, where it is not 0.
    pub(super) fn of(&self, bucket: u16) -> Option<(u16, u128)> {
        self.sums.get(usize::from(bucket)).filter(|sum| **sum != 0).map(|sum| (bucket, *sum))
    }

    /// The numbers of the buckets in which `theirs`, as [`Buckets::occupied`] gave them, differs from this.
    pub(super) fn differing(&self, theirs: &[(u16, u128)]) -> Vec<u16> {
        let mut rest = self.sums.clone();
        for (bucket, sum) in theirs {
            if let Some(ours) = rest.get_mut(usize::from(*bucket)) {
                *ours = ours.wrapping_sub(*sum);
            }
        }
        rest.iter().enumerate().filter(|(_, sum)| **sum != 0).map(|(bucket, _)| bucket as u16).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_again_leaves_nothing() {
        let mut buckets = Buckets::new();
        buckets.add(7, 1 << 100);
        buckets.add(7, 1 << 100);
        assert_eq!(buckets.occupied(), [(7, 1 << 101)]);
        buckets.take(7, 1 << 100);
        buckets.take(7, 1 << 100);
        assert_eq!((buckets.total(), buckets.occupied()), (0, vec![]));
    }

    #[test]
    fn only_buckets_that_differ_are_named() {
        let (mut ours, mut theirs) = (Buckets::new(), Buckets::new());
        ours.add(1, 10);
        theirs.add(1, 10);
        ours.add(2, 20);
        theirs.add(3, 30);
        assert_eq!(ours.differing(&theirs.occupied()), [2, 3]);
    }
}
