from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import refused
from scipy.io import wavfile

from transfer.data import sound
from transfer.data.preprocessing import Preprocessing, Sound
from transfer.data.sound import read_sound, spectrogram

SOUND = Sound(rate=8000, seconds=1.0, window=0.032, hop=0.016, mels=40, decibels=60.0)
EDGES = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)  # of the bands, in Hz
RNG = np.random.default_rng(0)


def form(height: int = 40, width: int = 61, channels: int = 1, **others: Any) -> Preprocessing:
    return Preprocessing(height, width, channels, **{"fit": "stretch", "polarity": "same", "sound": SOUND} | others)


def tone(hertz: float, seconds: float = 1.0, rate: int = 8000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav(samples: np.ndarray, rate: int = 8000, kind: type = np.int16) -> bytes:
    stream = io.BytesIO()
    if kind is np.uint8:
        scaled = np.rint(samples * 127 + 128)
    elif np.issubdtype(kind, np.integer):
        scaled = np.rint(samples * np.iinfo(kind).max)
    else:
        scaled = samples
    wavfile.write(stream, rate, scaled.astype(kind))
    return stream.getvalue()


def container(samples: bytes, bits: int, *, channels: int = 1, rate: int = 8000, tag: int = 1) -> bytes:
    """A WAV file by hand, of formats that scipy does not write."""
    block = channels * bits // 8
    layout = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("hertz", [150, 440, 1000, 1800, 3300])
def test_a_pure_tone_lights_up_the_band_around_it_from_beginning_to_end(hertz: float) -> None:
    image = read_sound(wav(tone(hertz)), form())[..., 0]
    assert image.shape == (40, 61)
    brightest = 39 - image.argmax(axis=0)  # low pitches are at the bottom
    lower, upper = EDGES[brightest], EDGES[brightest + 2]
    assert (lower < hertz).all()
    assert (hertz < upper).all()
    assert image[:, 5:-5].max(axis=0).min() > 240
    assert image[np.abs(np.arange(40) - 39 + brightest[30]) > 12].max() == 0


def test_the_spectrogram_is_that_of_a_plain_computation() -> None:
    signal = RNG.normal(size=8000) * np.linspace(0.01, 1, 8000)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256)
    hertz = np.arange(129) * 8000 / 256
    pitch = 2595 * np.log10(1 + hertz / 700)
    step = pitch[-1] / 41
    wanted = np.zeros((40, 61))
    for number in range(61):
        frame = signal[number * 128 : number * 128 + 256] * hann
        waves = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256)
        power = np.abs(waves @ frame) ** 2
        for band in range(40):
            wanted[39 - band, number] = sum(power * np.clip(1 - np.abs(pitch - (band + 1) * step) / step, 0, 1))
    decibels = 10 * np.log10(wanted / wanted.max())
    np.testing.assert_allclose(spectrogram(signal, SOUND), np.clip(255 * (1 + decibels / 60), 0, 255), atol=0.51)


@pytest.mark.parametrize("settings", [{"mels": 512}, {"rate": 192_000, "window": 0.001}, {"mels": 4, "window": 1.0}])
def test_no_band_is_empty_however_narrow(settings: dict[str, Any]) -> None:
    fine = SOUND.model_copy(update=settings)
    image = spectrogram(RNG.normal(size=fine.rate // 4), fine)
    assert image.shape[0] == fine.mels
    assert image.any(axis=1).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_every_kind_of_samples_gives_the_same_image(kind: type) -> None:
    signal = tone(700) + 0.3 * tone(2100)
    wanted = read_sound(wav(signal, kind=np.float64), form()).astype(int)
    gap = np.abs(read_sound(wav(signal, kind=kind), form()) - wanted)
    assert gap[wanted > 100].max() <= 2  # what is quieter, 8 bits cannot tell


def test_24_bits_many_channels_and_pipes_are_read() -> None:
    signal = np.rint(tone(900) * (2**23 - 1)).astype("<i4")
    wanted = read_sound(wav(tone(900), kind=np.int32), form())
    three_bytes = signal.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    np.testing.assert_allclose(read_sound(container(three_bytes, 24), form()), wanted, atol=1)
    one, other = tone(900), 0.7 * tone(2500)
    stereo = wav(np.stack([one, other], axis=1), kind=np.int32)
    np.testing.assert_allclose(
        read_sound(stereo, form()), read_sound(wav((one + other) / 2, kind=np.int32), form()), atol=1
    )
    piped = bytearray(wav(tone(900)))
    for size in (0xFFFF_FFFF, 0x7FFF_F000):
        piped[40:44] = struct.pack("<I", size)
        np.testing.assert_array_equal(read_sound(bytes(piped), form()), read_sound(wav(tone(900)), form()))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_the_rate_of_a_recording_makes_no_difference(rate: int) -> None:
    chirp = np.sin(2 * np.pi * (300 * np.arange(rate) / rate + 600 * (np.arange(rate) / rate) ** 2))
    wanted = read_sound(
        wav(np.sin(2 * np.pi * (300 * np.arange(8000) / 8000 + 600 * (np.arange(8000) / 8000) ** 2))), form()
    )
    image = read_sound(wav(chirp, rate), form())
    assert np.abs(image[:, 2:-2].astype(int) - wanted[:, 2:-2])[wanted[:, 2:-2] > 100].max() < 12


@pytest.mark.parametrize("before", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("noise", [0.0, 0.0005])
def test_a_word_stands_in_the_middle_wherever_it_was_said(before: float, noise: float) -> None:
    silence = np.zeros(round(before * 8000))
    recording = np.concatenate([silence, tone(1000, 0.3), np.zeros(3000)])
    recording = recording + noise * np.random.default_rng(1).normal(size=len(recording))
    loud = np.flatnonzero(read_sound(wav(recording), form())[..., 0].max(axis=0) > 200)
    assert loud.mean() == pytest.approx(30, abs=1.5)
    assert len(loud) == pytest.approx(0.3 / 0.016, abs=4)


def test_what_is_longer_is_cut_at_both_ends_alike() -> None:
    recording = np.concatenate([tone(500, 1.0), tone(1500, 1.0), tone(500, 1.0)])
    image = read_sound(wav(recording), form())[..., 0]
    bands = 39 - image[:, 3:-3].argmax(axis=0)
    assert (EDGES[bands] < 1500).all()
    assert (EDGES[bands + 2] > 1500).all()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_a_recording_with_nothing_in_it_is_black(kind: type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no NaN on the way
        for level in (0.0, 0.5, 0.3):  # the others have nothing but an offset, of which rounding leaves a little
            assert not read_sound(wav(np.full(4001, level), kind=kind), form(28, 28)).any()
        assert not read_sound(wav(1e-8 * tone(900), kind=np.float64), form(28, 28)).any()
        assert not spectrogram(np.zeros(10), SOUND).any()


@pytest.mark.parametrize("samples", [np.array([0.5]), np.array([0.5, -0.5]), tone(900, 0.01), 1.7e308 * tone(900)])
def test_recordings_of_any_length_and_level_have_an_image(samples: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_sound(wav(samples, kind=np.float64), form(28, 28, 3))
    assert image.shape == (28, 28, 3)
    assert image.any() == (len(samples) > 1)


def test_size_channels_and_polarity_are_those_of_the_form() -> None:
    content = wav(tone(900))
    plain = read_sound(content, form(32, 24))
    colour = read_sound(content, form(32, 24, 3, polarity="inverted", fit="crop"))
    assert colour.shape == (32, 24, 3)
    np.testing.assert_array_equal(colour, 255 - np.repeat(plain, 3, axis=2))


def test_what_is_no_recording_is_one_line_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = wav(tone(900))
    for name, content in {
        "empty": b"",
        "text": b"<html>503</html>",
        "cut": good[:-100],
        "no samples": container(b"", 16),
        "less than one sample": container(b"\0", 16),
        "no format": good[:12] + good[36:],
        "no channel": container(bytes(100), 16, channels=0),
        "slow": container(bytes(100), 16, rate=10),
        "fast": container(bytes(100), 16, rate=2_000_000_000),
        "compressed": container(bytes(100), 8, tag=7),
        "no number": wav(np.array([0.0, np.nan]), kind=np.float32),
        "long": container(bytes(601 * 1000), 8, rate=1000),
        "RIFF alone": good[:4],
    }.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
        refused(lambda name=name: read_sound(tmp_path / f"{name}.wav", form()), f"{name}.wav ")
    refused(lambda: read_sound(tmp_path / "gone.wav", form()), "gone.wav is missing")
    refused(lambda: read_sound(tmp_path / "cut.wav", form(), "upload"), "upload is cut off (15,900 of 16,000 bytes)")
    monkeypatch.setattr(sound, "LARGEST", 1000)
    refused(lambda: read_sound(good, form(), "large.wav"), "large.wav is larger than")


def nearest_mean(images: list[np.ndarray], labels: list[int], speakers: list[int]) -> float:
    """Accuracy of the nearest mean of the classes, for every speaker by the means of the others."""
    rows, classes, who = np.array(images).reshape(len(images), -1) / 255, np.array(labels), np.array(speakers)
    right = []
    for speaker in sorted(set(speakers)):
        known = who != speaker
        means = np.array([rows[known & (classes == name)].mean(axis=0) for name in sorted(set(labels))])
        right += [*(np.square(rows[~known, None] - means).sum(axis=2).argmin(axis=1) == classes[~known])]
    return float(np.mean(right))


def test_melodies_are_told_apart_whatever_the_voice_and_the_level() -> None:
    """A synthetic word is three gliding formants; a speaker has a pitch, a speed, a level, noise, and a microphone."""
    words = [np.random.default_rng([2, word]).uniform(300, 3200, (3, 4)) for word in range(5)]
    images, labels, speakers = [], [], []
    for speaker in range(4):
        rng = np.random.default_rng([3, speaker])
        rate = [8000, 16000, 22050, 44100][speaker]
        for label, formants in enumerate(words):
            seconds = rng.uniform(0.4, 0.8)
            time = np.arange(round(seconds * rate)) / rate
            paths = [
                np.interp(time / seconds, np.linspace(0, 1, 4), path * rng.uniform(0.93, 1.07)) for path in formants
            ]
            said = sum(np.sin(2 * np.pi * np.cumsum(path) / rate) for path in paths) * np.hanning(len(time))
            whole = np.concatenate([np.zeros(rng.integers(rate)), said, np.zeros(rng.integers(rate))])
            whole = rng.uniform(0.02, 0.3) * (whole + 0.005 * rng.normal(size=len(whole)))
            images.append(read_sound(wav(whole, rate), form(28, 28)))
            labels.append(label)
            speakers.append(speaker)
    assert nearest_mean(images, labels, speakers) >= 0.9  # chance is 0.2
