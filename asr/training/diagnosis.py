"""What a training looks like it is suffering from, in words."""

from asr.training.validate import Validation


def diagnose(epoch: int, validation: Validation, *, utterances: int) -> str | None:
    """Advice after an epoch (1-based), or None. CTC starts on a plateau where every frame is blank: normal, then a warning."""
    if validation.empty < utterances:
        return None
    if epoch <= 4:
        return "every output is empty: the all-blank plateau at the start of a CTC training is normal for the first epochs"
    return (
        f"every output is still empty after {epoch} epochs: try a smaller optim.learning_rate or smaller batches "
        "(batches.utterances=8), start augmentation later (augment.start_epoch), "
        "and check that transcripts belong to their recordings"
    )
