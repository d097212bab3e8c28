"""What is looked at: a network, trained or fresh, and one recording as it goes through it."""

import contextlib
import re
import string
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from asr.data.audio import AudioWarning, read_audio
from asr.data.check import target_text
from asr.data.files import open_regular, show_path
from asr.data.manifest import Utterance, read_manifest
from asr.decoding.greedy import greedy_decode
from asr.decoding.hypothesis import Hypothesis
from asr.errors import DataError, ModelError, UsageError
from asr.features.filterbank import FeatureExtractor, FeatureOptions, mel_centres_hz
from asr.features.normalize import NormalizeOptions, StatisticsAccumulator
from asr.models.encoder import Encoder, EncoderOptions
from asr.models.model import ModelOptions, SpeechModel
from asr.models.package import LoadedModel, load_model
from asr.text.tokenizer import Tokenizer, TokenOptions

#: Longest recording that a picture is made of, s.
LONGEST = 60.0
#: Duration of an audio file whose length nobody has stated.
WHOLE = -1.0


@dataclass
class SourceOptions:
    """The network and the recording. `__post_init__` raises UsageError naming the option."""

    #: folder that receives the page, the pictures and the numbers; files of the same names are replaced
    out: str = field(default="", metadata={"path": True})
    #: run directory or its model/ folder, or a checkpoint (RUN/checkpoints/step-N)
    model: str = field(default="", metadata={"path": True})
    #: manifest that holds the utterance; without it, the audio file on the command line is heard
    manifest: str = field(default="", metadata={"path": True})
    #: id of the utterance in the manifest; without it, its first one
    id: str = ""

    def __post_init__(self) -> None:
        if self.id and not self.manifest:
            raise UsageError(f"id={self.id} names an utterance of a manifest: add manifest=FILE")


@dataclass
class WindowOptions(SourceOptions):
    #: left edge of the picture, s
    begin: float = 0.0
    #: right edge of the picture, s; 0 for the end of the recording
    end: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.begin < float("inf") or (self.end and not self.begin < self.end < float("inf")):
            raise UsageError(f"begin={self.begin:g} end={self.end:g}: expected 0 <= begin < end, in s (end=0: to the end)")

    def inside(self, times: np.ndarray) -> slice:
        """The frames of the picture among frames at these times (T,). Raises UsageError where there is none."""
        kept = np.flatnonzero((times >= self.begin) & (times <= (self.end or float("inf"))))
        if not len(kept):
            raise UsageError(
                f"begin={self.begin:g} end={self.end:g}: no frame lies there, the recording ends at {times[-1]:.2f} s"
            )
        return slice(int(kept[0]), int(kept[-1]) + 1)


@dataclass(frozen=True)
class Heard:
    """One recording on its way through one network. T feature frames, T' emission frames."""

    #: Utterance id or file name.
    name: str
    #: What is said, None where nobody wrote it down.
    text: str | None
    #: (N,) float32 samples at the network's rate.
    waveform: np.ndarray
    #: (T, bins) log-mel energies without derivatives, normalisation or cosine transform.
    logmel: np.ndarray
    #: (T,) centres of the feature frames, s.
    logmel_times: np.ndarray
    #: (bins,) centres of the mel filters, Hz.
    hz: np.ndarray
    #: (1, T, D) what the encoder sees.
    features: Tensor
    #: (D,) what the normalisation has divided by.
    scale: Tensor
    #: (1,) T.
    lengths: Tensor
    #: (1, T', E) what the first recurrent layer sees, before its normalisation.
    entering: Tensor
    #: (1,) T'.
    hidden_lengths: Tensor
    #: (T', V) natural logarithms.
    log_probs: np.ndarray
    #: (T',) centres of the emission frames, s.
    times: np.ndarray
    #: Time from one emission frame to the next, s.
    frame_shift_s: float
    hypothesis: Hypothesis


def one_utterance(options: SourceOptions, files: Sequence[str]) -> Utterance:
    """The recording that the options and the words of the command line name; an audio file becomes an utterance of its own.

    Raises UsageError where none or several are named and for an unknown id, DataError for a manifest that cannot be read.
    """
    form = "give one audio file, or manifest=FILE with id=NAME"
    if options.manifest and files:
        raise UsageError(f"manifest= and the file {files[0]!a} are given together: {form}")
    if len(files) > 1:
        raise UsageError(f"{len(files)} audio files are given, one picture shows one of them: {form}")
    if not options.manifest and not files:
        raise UsageError(f"there is nothing to hear: {form}")
    if files:
        return Utterance(files[0], files[0], duration=WHOLE)
    utterances = read_manifest(options.manifest)
    if not options.id:
        return utterances[0]
    for one in utterances:
        if one.id == options.id:
            return one
    raise UsageError(f"id={options.id} is not in {show_path(options.manifest)}; its first one is {utterances[0].id}")


def hear(loaded: LoadedModel, utterance: Utterance, options: SourceOptions) -> Heard:
    """Send a recording through a network, without gradients, one stage after the other.

    A model that normalises by speaker takes the statistics of the speaker in the manifest, as decoding does. Raises
    DataError for a recording that cannot be read, gives no emission frame, or is longer than `LONGEST`.
    """
    model = loaded.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        waveform = _read(model, utterance)
        cmvn = _speaker(model, utterance, options)
    if model.emission_length(len(waveform)) == 0:
        raise DataError(f"{show_path(utterance.audio_filepath)}: is too short for a single frame; choose a longer recording")
    lengths = torch.tensor([len(waveform)])
    with torch.no_grad():
        features, frames = model.features(torch.from_numpy(waveform)[None], lengths)
        scale = model.normalizer.statistics(features, frames, cmvn)[1]
        features = model.normalizer(features, frames, cmvn)
        entering, hidden_lengths = enter(model.encoder, features, frames)
        log_probs = model.head(through_layers(model.encoder, entering, hidden_lengths))[0].double().numpy()
    mel = mel_extractor(model.options.features)
    logmel = mel(torch.from_numpy(waveform)[None], lengths)[0][0].double().numpy()
    shift = model.features.frame_shift_s
    step = shift * model.encoder.subsampling
    unit = loaded.tokenizer.options.unit
    return Heard(
        name=Path(utterance.id).name,
        text=target_text(utterance, unit),
        waveform=waveform,
        logmel=logmel,
        logmel_times=shift * (np.arange(len(logmel)) + 0.5),
        hz=mel_centres_hz(model.options.features),
        features=features,
        scale=torch.ones(features.shape[2]) if scale is None else scale.expand(1, 1, -1).flatten(),
        lengths=frames,
        entering=entering,
        hidden_lengths=hidden_lengths,
        log_probs=log_probs,
        times=shift * model.encoder.centre_frames + step * np.arange(len(log_probs)),
        frame_shift_s=step,
        hypothesis=greedy_decode(
            log_probs,
            lambda ids: " ".join(loaded.tokenizer.decode(ids).split()),
            frame_shift_s=step,
            first_frame_s=shift * model.encoder.centre_frames,
        ),
    )


def _read(model: SpeechModel, utterance: Utterance) -> np.ndarray:
    """(N,) samples at the network's rate."""
    rate = model.options.features.sample_rate
    whole = utterance.duration == WHOLE
    path, duration = utterance.audio_filepath, None if whole else utterance.duration
    waveform = read_audio(path, sample_rate=rate, offset=utterance.offset, duration=duration)
    if len(waveform) > LONGEST * rate:
        raise DataError(
            f"{show_path(path)}: {len(waveform) / rate:.0f} s are too long for a picture, which holds at most {LONGEST:.0f} s; "
            "cut a piece, or name one by offset and duration in a manifest"
        )
    return waveform


@torch.no_grad()
def _speaker(model: SpeechModel, utterance: Utterance, options: SourceOptions) -> Tensor | None:
    """(1, 2, D) statistics of the speaker over the whole manifest, where the model wants them and there is one."""
    if not model.options.normalize.needs_speakers or utterance.speaker is None or not options.manifest:
        return None
    sums = StatisticsAccumulator()
    for one in read_manifest(options.manifest):
        if one.speaker == utterance.speaker:
            with contextlib.suppress(DataError):  # as decoding does: what cannot be heard tells nothing of the speaker
                waveform = _read(model, one)
                sums.add(*model.features(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])))
    return sums.statistics()[None] if sums.frames() else None


def mel_extractor(options: FeatureOptions) -> FeatureExtractor:
    """Log-mel energies of the same frames and filters, before cosine transform, derivatives and energy."""
    return FeatureExtractor(replace(options, kind="fbank", deltas=0, energy=False))


def enter(encoder: Encoder, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) up to the door of the first recurrent layer: (B, T', E) and lengths (B,)."""
    return encoder.projection(encoder.frontend(features, lengths)), -(-lengths // encoder.subsampling)


def through_layers(encoder: Encoder, x: Tensor, lengths: Tensor, *, count: int | None = None) -> Tensor:
    """What leaves the first `count` recurrent layers (all by default): (B, T', E) -> (B, T', H). No dropout, no noise."""
    for number, (norm, layer) in enumerate(list(zip(encoder.norms, encoder.layers))[:count], 1):
        x = layer(norm(x), lengths)
        if number == encoder.self_conditioned:
            x = encoder.condition(x, x, lengths)[0]
    return x


# --- networks


def load_network(path: str) -> LoadedModel:
    """A trained network in evaluation mode: a run directory, its model/ folder, or one of its checkpoints.

    A checkpoint holds weights alone; options and tokens are those of the run's model. Raises ModelError as `load_model`.
    """
    folder = Path(path)
    if not re.fullmatch(r"step-\d+", folder.name) or folder.resolve().parent.name != "checkpoints":
        return load_model(path)
    loaded = load_model(folder.resolve().parents[1])
    weights = folder / "model.safetensors"
    try:
        with open_regular(weights) as handle:
            loaded.model.load_state_dict(load(handle.read()))
    except DataError as fault:
        raise ModelError(str(fault)) from None
    except (SafetensorError, RuntimeError, ValueError, KeyError):
        raise ModelError(f"{show_path(weights)}: is damaged, or does not belong to the model of its run") from None
    return replace(loaded, folder=folder)


def checkpoints_of(path: str) -> list[Path]:
    """The checkpoints of a run, oldest first; none for a bare model folder."""
    folder = Path(path) / "checkpoints"
    found = [each for each in folder.iterdir() if re.fullmatch(r"step-\d+", each.name)] if folder.is_dir() else []
    return sorted(found, key=lambda each: int(each.name.removeprefix("step-")))


def before_training(loaded: LoadedModel) -> LoadedModel:
    """The same network with the weights it began with: those that its options and the run's seed give.

    The statistics of the features are kept. A run that began from another model (init=) began elsewhere.
    """
    seed = loaded.notes.get("seed")
    model = SpeechModel(loaded.model.options, vocabulary=loaded.model.vocabulary, seed=seed if isinstance(seed, int) else 1)
    model.normalizer.load_state_dict(loaded.model.normalizer.state_dict())
    return replace(loaded, model=model.eval())


def fresh_network(encoder: EncoderOptions, *, seed: int) -> LoadedModel:
    """An untrained network of these shapes for 16 kHz speech, with the letters a to z and the space as its symbols."""
    tokenizer = Tokenizer.build([string.ascii_lowercase + " a"], TokenOptions())
    normalize = NormalizeOptions(mean="utterance", variance="utterance")
    model = SpeechModel(ModelOptions(normalize=normalize, encoder=encoder), vocabulary=len(tokenizer), seed=seed)
    return LoadedModel(model.eval(), tokenizer, {}, Path())


def network_of(model: str, encoder: EncoderOptions, *, seed: int) -> tuple[LoadedModel, str]:
    """The trained network of `model=`, or a fresh one of `encoder.*`, and what to call it.

    Raises UsageError where both are given: a trained network has a shape of its own.
    """
    if not model:
        return fresh_network(encoder, seed=seed), f"a fresh network (seed {seed})"
    if encoder != EncoderOptions():
        raise UsageError("encoder.* gives the shape of a fresh network, and model= brings its own: leave one of them out")
    if seed != 1:
        raise UsageError(f"seed={seed} draws the weights of a fresh network, and model= brings its own: leave one of them out")
    return load_network(model), show_path(model)


def refuse_unread(options: SourceOptions, names: Sequence[str], why: str) -> None:
    """Raise UsageError for the first of these options that is set to something, for nothing would read it."""
    plain = type(options)()
    for name in names:
        if getattr(options, name) != getattr(plain, name):
            raise UsageError(f"{name}= is set, and {why}: leave it out")


def describe_encoder(options: EncoderOptions) -> str:
    """The recurrent part of a network in a few words: `lstm with peepholes, 3 x 250, bidirectional`."""
    words = options.cell
    if options.cell in ("rnn", "mlp"):
        words = f"{words} ({options.activation})"
    if options.cell == "lstm" and not options.forget_gate:
        words += " without forget gate"
    if options.cell == "lstm" and options.coupled:
        words += " with coupled gates"
    if options.cell == "lstm" and options.peepholes:
        words += " with peepholes"
    reading = "bidirectional" if options.bidirectional else "forward-only"
    middle = f", self-conditioned at layer {options.self_conditioned}" if options.self_conditioned else ""
    return f"{words}, {options.layers} x {options.width}{middle}, {reading}"
