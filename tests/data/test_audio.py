"""Recordings as images: log-mel spectrograms, whatever the file's format, rate, level and silence."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from conftest import refused

from transfer.data import audio
from transfer.data.audio import read_sound, spectrogram
from transfer.data.preprocessing import Sound

SOUND = Sound(rate=8000, seconds=1.0, window=0.032, hop=0.016, mels=40, decibels=60.0)
EDGES = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)  # of the bands, in Hz
RNG = np.random.default_rng(0)


def tone(hertz: float, seconds: float = 1.0, rate: int = 8000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def recording(samples: np.ndarray, rate: int = 8000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    return read_sound(content, SOUND, "a.wav").astype(int)


@pytest.mark.parametrize("hertz", [150, 440, 1000, 1800, 3300])
def test_a_pure_tone_lights_up_the_band_around_it_from_beginning_to_end(hertz: float) -> None:
    image = read(recording(tone(hertz)))
    assert image.shape[0] == 40
    brightest = 39 - image.argmax(axis=0)  # low pitches are at the bottom
    inner = slice(3, -3)
    assert (EDGES[brightest[inner]] < hertz).all()
    assert (EDGES[brightest[inner] + 2] > hertz).all()
    assert image[:, inner].max(axis=0).min() > 240


def test_the_spectrogram_is_that_of_a_plain_computation() -> None:
    signal = RNG.normal(size=8000) * np.linspace(0.01, 1, 8000)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    padded = np.pad(signal, 256)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 256)[128::128] * hann  # the first is half of zeros
    power = np.abs(np.fft.rfft(frames, 270)) ** 2
    pitch = 2595 * np.log10(1 + np.arange(136) * 8000 / 270 / 700)
    step = 2595 * np.log10(1 + 4000 / 700) / 41
    bands = [np.clip(1 - np.abs(pitch - (band + 1) * step) / step, 0, 1) for band in range(40)]
    decibels = 10 * np.log10(power @ np.array(bands).T)
    wanted = np.clip(255 * (1 + (decibels - decibels.max()) / 60), 0, 255).T[::-1]
    found = spectrogram(signal, SOUND)
    np.testing.assert_allclose(found, wanted[:, : found.shape[1]], atol=0.51)


@pytest.mark.parametrize("settings", [{"mels": 512}, {"mels": 4, "window": 1.0}, {"seconds": 0.01}])
def test_no_band_is_empty_however_narrow(settings: dict[str, float]) -> None:
    fine = SOUND.model_copy(update=settings)
    image = spectrogram(RNG.normal(size=2000), fine)
    assert image.shape[0] == fine.mels
    assert image.any(axis=1).all()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_24", "FLOAT", "ALAW", "ULAW")),
        *(("FLAC", None), ("OGG", "VORBIS")),
    ],
)
def test_every_format_gives_the_same_image(kind: str, subtype: str | None) -> None:
    signal = tone(700) + 0.3 * tone(2100)
    wanted = read(recording(signal))
    gap = np.abs(read(recording(signal, kind=kind, subtype=subtype)) - wanted)
    assert gap[wanted > 150].max() <= 4  # what is quieter, 8 bits cannot tell


def test_mp3_and_several_channels_are_read() -> None:
    one, other = tone(900, rate=16000), 0.7 * tone(2500, rate=16000)
    wanted = read(recording((one + other) / 2, 16000))
    np.testing.assert_allclose(read(recording(np.stack([one, other], axis=1), 16000)), wanted, atol=6)
    mp3 = read(recording((one + other) / 2, 16000, "MP3"))
    assert (mp3[:, 20:40].argmax(axis=0) == wanted[:, 20:40].argmax(axis=0)).all()


def test_an_mp3_inside_a_wav_is_read_or_named() -> None:
    def inside(mp3: bytes) -> bytes:
        form = struct.pack("<HHIIHHHIHHH", 0x55, 1, 16000, 4000, 1, 0, 12, 1, 2, 144, 1) + bytes(2)
        parts = b"WAVEfmt " + struct.pack("<I", 30) + form + b"data" + struct.pack("<I", len(mp3)) + mp3
        return b"RIFF" + struct.pack("<I", len(parts)) + parts

    mp3 = recording(tone(900, rate=16000), 16000, "MP3")
    np.testing.assert_array_equal(read(inside(mp3)), read(mp3))
    refused(lambda: read(inside(mp3[:700])), "a.wav is a WAV with an MP3 inside that cannot be read")


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_the_rate_of_a_recording_makes_no_difference(rate: int) -> None:
    def chirp(rate: int) -> bytes:
        time = np.arange(rate) / rate
        return recording(0.5 * np.sin(2 * np.pi * (300 * time + 600 * time**2)), rate)

    wanted = read(chirp(8000))[:, 3:-3]
    assert np.abs(read(chirp(rate))[:, 3:-3] - wanted)[wanted > 100].max() < 12


@pytest.mark.parametrize("before", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("noise", [0.0, 0.0005])
def test_a_word_stands_in_the_middle_wherever_it_was_said(before: float, noise: float) -> None:
    said = np.concatenate([np.zeros(round(before * 8000)), tone(1000, 0.3), np.zeros(3000)])
    image = read(recording(said + noise * np.random.default_rng(1).normal(size=len(said))))
    loud = np.flatnonzero(image.max(axis=0) > 200)
    assert loud.mean() == pytest.approx((image.shape[1] - 1) / 2, abs=1.5)
    assert len(loud) == pytest.approx(0.3 / 0.016, abs=4)


def test_what_is_longer_is_cut_at_both_ends_alike() -> None:
    image = read(recording(np.concatenate([tone(500), tone(1500), tone(500)])))
    bands = 39 - image[:, 4:-4].argmax(axis=0)
    assert (EDGES[bands] < 1500).all()
    assert (EDGES[bands + 2] > 1500).all()


@pytest.mark.filterwarnings("error")
def test_a_recording_with_nothing_in_it_is_black() -> None:
    for level in (0.0, 0.3):  # the second has nothing but an offset
        assert not read(recording(np.full(4001, level))).any()
    assert read(recording(tone(900, 0.01))).any()


def test_what_is_no_recording_is_one_line_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"<html>503</html>", recording(tone(900))[:30], recording(tone(900), kind="FLAC")[:-2000]):
        refused(lambda content=content: read(content), "a.wav is no image or recording that can be read")
    refused(lambda: read(recording(np.zeros(0))), "a.wav has 0 samples")
    refused(lambda: read(recording(np.zeros(9), rate=10)), "at 10 Hz")
    monkeypatch.setattr(audio, "LARGEST", 1000)
    refused(lambda: read(recording(tone(900))), "a.wav has 8,000 samples", "cut it into shorter recordings")
