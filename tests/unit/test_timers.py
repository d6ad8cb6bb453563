"""The laws of timers: no drift, no pile-up, wall clocks across clock changes, nonsense refused when built."""

import math
import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flock.core.timers import MAX_COUNTED, Fire, next_fire, validate
from flock.declaring.schedule import ScheduleSpec
from flock.model.errors import ConfigurationError
from flock.model.schedule import Cron, Daily, Every, Once

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Kolkata",
)
EXPRESSIONS = (
    "* * * * *",
    "*/15 * * * *",
    "30 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "0 */6 * * *",
    "5 0 1,15 * *",
    "0 9 * * MON-FRI",
    "0 0 L * *",
    "0 0 29 2 *",
)
EPOCH = 1_700_000_000.0

starts = st.floats(min_value=1.2e9, max_value=2.0e9)
intervals = st.one_of(st.floats(min_value=0.001, max_value=1e7), st.integers(min_value=1, max_value=100_000))
daily_specs = st.builds(
    ScheduleSpec, at=st.times(), tz=st.sampled_from(ZONES), max_repeats=st.none() | st.just(1_000_000)
)
cron_specs = st.builds(ScheduleSpec, cron=st.sampled_from(EXPRESSIONS), tz=st.sampled_from(ZONES))
every_specs = st.builds(ScheduleSpec, every=intervals, after=st.none() | st.just(0) | intervals)
repeating_specs = every_specs | daily_specs | cron_specs


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def in_zone(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def fires(spec: ScheduleSpec, *, started: float, count: int) -> list[float]:
    """Fire on time, `count` times at most."""
    times: list[float] = []
    while len(times) < count:
        previous = times[-1] if times else None
        fire = next_fire(spec, started=started, previous=previous, iteration=len(times), now=started)
        if fire is None:
            break
        times.append(fire.fire_time)
    return times


def step(spec: ScheduleSpec, previous: float | None, now: float, *, started: float = EPOCH) -> Fire:
    fire = next_fire(spec, started=started, previous=previous, iteration=0, now=now)
    assert fire is not None
    return fire


# Declarations


def test_seconds_and_timedeltas_mean_the_same() -> None:
    assert ScheduleSpec(every=90).plan == ScheduleSpec(every=timedelta(seconds=90)).plan
    assert ScheduleSpec(every=90).plan == Every(interval=90.0, delay=90.0)
    assert ScheduleSpec(every=90, after=timedelta(0)).plan == Every(interval=90.0, delay=0.0)


def test_a_time_is_daily_and_a_datetime_is_once() -> None:
    assert ScheduleSpec(at="09:30").plan == Daily(time=time(9, 30))
    assert ScheduleSpec(at="09:30:15").plan == Daily(time=time(9, 30, 15))
    assert ScheduleSpec(at=time(9, 30)).plan == Daily(time=time(9, 30))
    assert ScheduleSpec(at="2030-01-31T09:30").plan == Once(moment=datetime(2030, 1, 31, 9, 30))  # noqa: DTZ001
    assert ScheduleSpec(at="2030-01-31T09:30Z").plan == Once(moment=datetime(2030, 1, 31, 9, 30, tzinfo=UTC))


def test_the_spaces_of_a_cron_expression_do_not_matter() -> None:
    assert ScheduleSpec(cron="  */5  *\t* * * ").plan == Cron(expression="*/5 * * * *")


def test_a_spec_is_a_value() -> None:
    spec = ScheduleSpec(cron="*/5 * * * *", tz="Europe/Berlin", max_repeats=3)
    copy = pickle.loads(pickle.dumps(spec))  # noqa: S301 - our own bytes
    assert copy == spec
    assert hash(copy) == hash(spec)
    assert copy.plan == spec.plan


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({}, "exactly one of every=, at= and cron=, got none"),
        ({"every": 1, "cron": "* * * * *"}, "got every and cron"),
        ({"every": 1, "at": "09:00", "cron": "* * * * *"}, "got every and at and cron"),
        ({"every": 0}, "more than 0"),
        ({"every": -1}, "more than 0"),
        ({"every": timedelta(seconds=-1)}, "more than 0"),
        ({"every": math.nan}, "more than 0"),
        ({"every": math.inf}, "less than 300 years"),
        ({"every": 10**400}, "less than 300 years"),
        ({"every": True}, "a timedelta or a number of seconds"),
        ({"every": "5m"}, "a timedelta or a number of seconds"),
        ({"every": 1, "after": -1}, "at least 0"),
        ({"every": 1, "after": "soon"}, "a timedelta or a number of seconds"),
        ({"at": "09:00", "after": 1}, "leave it out with at= and cron="),
        ({"cron": "* * * * *", "after": 1}, "leave it out with at= and cron="),
        ({"after": 1}, "leave it out with at= and cron="),
        ({"at": "25:00"}, "write 'HH:MM"),
        ({"at": "9:00"}, "write 'HH:MM"),
        ({"at": "tomorrow"}, "write 'HH:MM"),
        ({"at": "2026"}, "write 'HH:MM"),
        ({"at": ""}, "write 'HH:MM"),
        ({"at": date(2030, 1, 1)}, "must be a datetime, a time"),
        ({"at": 900}, "must be a datetime, a time"),
        ({"at": time(9, tzinfo=UTC)}, "give a naive time, and the zone as tz="),
        ({"cron": "* * * *"}, "five fields"),
        ({"cron": "0 * * * * *"}, "five fields"),
        ({"cron": ""}, "five fields"),
        ({"cron": 5}, "five fields"),
        ({"cron": "@daily"}, "five fields"),
        ({"every": 1, "max_repeats": 0}, "at least 1"),
        ({"every": 1, "max_repeats": 1.5}, "at least 1"),
        ({"every": 1, "max_repeats": True}, "at least 1"),
        ({"every": 1, "tz": "Mars/Olympus"}, "IANA name"),
        ({"every": 1, "tz": "../etc/passwd"}, "IANA name"),
        ({"every": 1, "tz": "Europe"}, "IANA name"),
        ({"every": 1, "tz": ""}, "IANA name"),
        ({"every": 1, "tz": None}, "IANA name"),
        ({"every": 1, "tz": UTC}, "IANA name"),
    ],
)
def test_a_schedule_that_can_never_work_is_refused_with_advice(arguments: dict[str, Any], advice: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ScheduleSpec(**arguments)
    assert advice in str(raised.value)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_cron_expressions_in_use_are_accepted(expression: str) -> None:
    validate(ScheduleSpec(cron=expression))


@pytest.mark.parametrize(
    "expression",
    ["61 * * * *", "* 25 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a b c d e", "*/0 * * * *", "5-1 * * * *",
     ", , , , ,", "0 0 30 2 *", "0 0 31 4,6 *", "0 0 */30 2 5#5",
     "- - - - -", "*/-1 * * * *", "² * * * *", f"{'9' * 5000} * * * *"],
)  # fmt: skip
def test_cron_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(ConfigurationError, match="cron="):
        validate(ScheduleSpec(cron=expression))


@given(st.lists(st.text(alphabet="0123456789*/,-L#WSUNMOJA²", min_size=1, max_size=6), min_size=5, max_size=5))
def test_a_cron_expression_is_valid_and_fires_or_is_refused(fields: list[str]) -> None:
    spec = ScheduleSpec(cron=" ".join(fields))
    try:
        validate(spec)
    except ConfigurationError:
        return
    assert len(fires(spec, started=EPOCH, count=2)) == 2


def test_a_cron_expression_without_a_day_never_fires() -> None:
    assert fires(ScheduleSpec(cron="0 0 */30 2 5#5"), started=EPOCH, count=1) == []


def test_schedules_without_cron_need_no_further_validation() -> None:
    validate(ScheduleSpec(every=1))


# Laws


@given(spec=repeating_specs, started=starts)
def test_firings_on_time_strictly_increase_and_skip_nothing(spec: ScheduleSpec, started: float) -> None:
    previous: float | None = None
    for iteration in range(5):
        fire = next_fire(spec, started=started, previous=previous, iteration=iteration, now=started)
        assert fire is not None
        assert (fire.iteration, fire.skipped) == (iteration, 0)
        assert fire.fire_time > (started if previous is None else previous) or spec.after == 0
        previous = fire.fire_time


@given(
    interval=intervals,
    after=st.none() | st.just(0) | intervals,
    started=starts,
    lateness=st.lists(st.floats(min_value=0, max_value=0.9), min_size=1, max_size=8),
)
def test_every_never_drifts_however_late_its_firings_are(
    interval: float, after: float | None, started: float, lateness: list[float]
) -> None:
    spec = ScheduleSpec(every=interval, after=after)
    first = started + (interval if after is None else after)
    previous: float | None = None
    now = started
    for index, late in enumerate(lateness):
        fire = next_fire(spec, started=started, previous=previous, iteration=index, now=now)
        assert fire is not None
        assert fire == Fire(fire_time=first + index * interval, iteration=index, skipped=0)
        previous = fire.fire_time
        now = previous + late * interval if late * interval > 1e-3 else previous


def test_the_millionth_firing_is_where_arithmetic_puts_it() -> None:
    previous = EPOCH + 0.1 * 999_999
    assert step(ScheduleSpec(every=0.1), previous, previous).fire_time == EPOCH + 0.1 + 0.1 * 999_999


@given(spec=repeating_specs, started=starts, behind=st.floats(min_value=0, max_value=400_000), data=st.data())
def test_missed_ticks_become_one_firing_of_the_latest_due_slot(
    spec: ScheduleSpec, started: float, behind: float, data: st.DataObject
) -> None:
    previous = data.draw(st.none() | st.just(fires(spec, started=started, count=1)[0]))
    now = (started if previous is None else previous) + behind
    fire = step(spec, previous, now, started=started)
    following = step(spec, fire.fire_time, fire.fire_time, started=started)
    if fire.fire_time <= now:
        assert following.fire_time > now
    else:
        assert fire.skipped == 0
    assert following.fire_time > fire.fire_time
    assert following.skipped == 0


@given(spec=repeating_specs, started=starts, missed=st.integers(min_value=0, max_value=12))
def test_what_was_missed_is_counted(spec: ScheduleSpec, started: float, missed: int) -> None:
    times = fires(spec, started=started, count=missed + 1)
    fire = next_fire(spec, started=started, previous=None, iteration=0, now=times[-1])
    assert fire == Fire(fire_time=times[-1], iteration=0, skipped=missed)


def test_after_a_long_absence_the_latest_slot_is_found_and_the_count_stops() -> None:
    year = timedelta(days=365).total_seconds()
    fire = step(ScheduleSpec(cron="* * * * *"), EPOCH, EPOCH + year)
    assert fire.fire_time == math.floor((EPOCH + year) / 60) * 60
    assert fire.skipped == MAX_COUNTED
    assert step(ScheduleSpec(every=60), None, EPOCH + year).skipped == 365 * 24 * 60 - 1


@given(spec=repeating_specs, started=starts)
def test_a_schedule_ends_after_its_repeats(spec: ScheduleSpec, started: float) -> None:
    limited = replace(spec, max_repeats=3)
    assert len(fires(limited, started=started, count=10)) == 3
    assert next_fire(limited, started=started, previous=started, iteration=3, now=started + 1e9) is None


def test_skipped_slots_do_not_count_as_repeats() -> None:
    spec = ScheduleSpec(every=10, max_repeats=2)
    fire = step(spec, None, EPOCH + 95)
    assert fire == Fire(fire_time=EPOCH + 90, iteration=0, skipped=8)
    again = next_fire(spec, started=EPOCH, previous=fire.fire_time, iteration=1, now=EPOCH + 95)
    assert again == Fire(fire_time=EPOCH + 100, iteration=1, skipped=0)


def test_a_slot_does_not_fire_a_rounding_error_early() -> None:
    spec = ScheduleSpec(every=0.7, after=0)
    fire = step(spec, 0.7 * 3, math.nextafter(0.7 * 5, 0), started=0.0)
    assert fire == Fire(fire_time=0.7 * 4, iteration=0, skipped=0)


def test_a_firing_before_the_start_does_not_bring_the_first_one_forward() -> None:
    spec = ScheduleSpec(every=60)
    assert step(spec, EPOCH - 3_600, EPOCH) == Fire(fire_time=EPOCH + 60, iteration=0, skipped=0)


def test_after_zero_fires_at_once() -> None:
    assert fires(ScheduleSpec(every=60, after=0), started=EPOCH, count=2) == [EPOCH, EPOCH + 60]


@given(at=st.times(), zone=st.sampled_from(ZONES), started=starts)
@example(at=time(2, 30), zone="Europe/Berlin", started=utc("2026-03-28T12:00"))
@example(at=time(0, 0), zone="America/Sao_Paulo", started=utc("2018-11-03T12:00"))
def test_a_daily_time_is_that_time_on_the_wall_or_the_end_of_a_gap(at: time, zone: str, started: float) -> None:
    spec = ScheduleSpec(at=at, tz=zone)
    for fire_time in fires(spec, started=started, count=4):
        local = datetime.fromtimestamp(fire_time, ZoneInfo(zone))
        shown = local.replace(tzinfo=None)
        wanted = datetime.combine(local.date(), at)
        if abs(shown - wanted) > timedelta(microseconds=2):
            before = datetime.fromtimestamp(fire_time - 1, ZoneInfo(zone)).replace(tzinfo=None)
            assert before.date() < shown.date() or before < wanted < shown
            assert shown - before > timedelta(seconds=1)


@given(spec=cron_specs, started=starts)
def test_cron_fires_in_the_minutes_that_it_names(spec: ScheduleSpec, started: float) -> None:
    for fire_time in fires(spec, started=started, count=3):
        assert fire_time % 60 == 0


# Wall clocks

HALF_PAST_TWO = [
    ScheduleSpec(at="02:30", tz="Europe/Berlin"),
    ScheduleSpec(cron="30 2 * * *", tz="Europe/Berlin"),
]


@pytest.mark.parametrize("spec", HALF_PAST_TWO)
def test_a_time_that_spring_skips_fires_at_the_end_of_the_gap(spec: ScheduleSpec) -> None:
    times = fires(spec, started=utc("2026-03-28T00:00"), count=3)
    assert times == [utc("2026-03-28T01:30"), utc("2026-03-29T01:00"), utc("2026-03-30T00:30")]


@pytest.mark.parametrize("spec", HALF_PAST_TWO)
def test_a_time_that_autumn_repeats_fires_once(spec: ScheduleSpec) -> None:
    times = fires(spec, started=utc("2026-10-24T12:00"), count=2)
    assert times == [utc("2026-10-25T00:30"), utc("2026-10-26T01:30")]


@pytest.mark.parametrize("spec", HALF_PAST_TWO)
def test_a_start_in_the_second_of_two_equal_hours_waits_for_the_next_day(spec: ScheduleSpec) -> None:
    started = in_zone("2026-10-25T02:10", "Europe/Berlin", fold=1)
    times = fires(spec, started=started, count=1)
    assert times == [utc("2026-10-26T01:30")]


def test_a_cron_pace_keeps_real_time_when_an_hour_repeats() -> None:
    spec = ScheduleSpec(cron="*/30 * * * *", tz="Europe/Berlin")
    started = utc("2026-10-24T23:50")
    assert fires(spec, started=started, count=5) == [utc("2026-10-25T00:00") + 1800 * index for index in range(5)]


def test_midnight_that_does_not_exist_is_one_o_clock() -> None:
    times = fires(ScheduleSpec(at="00:00", tz="America/Sao_Paulo"), started=utc("2018-11-03T12:00"), count=2)
    assert times == [utc("2018-11-04T03:00"), utc("2018-11-05T02:00")]


def test_a_day_that_does_not_exist_fires_when_the_next_begins() -> None:
    times = fires(ScheduleSpec(at="09:00", tz="Pacific/Apia"), started=utc("2011-12-29T00:00"), count=4)
    assert times == [utc("2011-12-29T19:00"), utc("2011-12-30T10:00"), utc("2011-12-30T19:00"), utc("2011-12-31T19:00")]


def test_the_first_daily_firing_lies_after_the_start() -> None:
    spec = ScheduleSpec(at="12:00")
    assert fires(spec, started=utc("2026-01-01T12:00"), count=1) == [utc("2026-01-02T12:00")]
    assert fires(spec, started=utc("2026-01-01T11:59"), count=1) == [utc("2026-01-01T12:00")]


def test_seconds_and_fractions_of_a_daily_time_count() -> None:
    assert fires(ScheduleSpec(at="02:30:15", tz="Europe/Berlin"), started=utc("2026-03-28T12:00"), count=1) == [
        utc("2026-03-29T01:00")
    ]
    assert fires(ScheduleSpec(at=time(1, 0, 0, 500_000)), started=utc("2026-01-01T00:00"), count=1) == [
        utc("2026-01-01T01:00:00.5")
    ]


# Once


def test_a_moment_fires_once() -> None:
    spec = ScheduleSpec(at=datetime(2030, 1, 1, 9, tzinfo=timezone(timedelta(hours=2))))
    assert fires(spec, started=EPOCH, count=5) == [utc("2030-01-01T07:00")]


def test_a_naive_moment_is_in_the_zone_of_the_schedule() -> None:
    spec = ScheduleSpec(at="2030-07-01T09:00", tz="Europe/Berlin")
    assert fires(spec, started=EPOCH, count=5) == [utc("2030-07-01T07:00")]


def test_a_naive_moment_in_a_gap_is_its_end() -> None:
    spec = ScheduleSpec(at="2026-03-29T02:30", tz="Europe/Berlin")
    assert fires(spec, started=EPOCH, count=1) == [utc("2026-03-29T01:00")]


def test_a_moment_just_before_the_start_fires_at_once_and_an_older_one_never() -> None:
    spec = ScheduleSpec(at=datetime(2026, 1, 1, tzinfo=UTC))
    moment = utc("2026-01-01T00:00")
    assert fires(spec, started=moment, count=1) == [moment]
    assert fires(spec, started=moment + 1.0, count=1) == [moment]
    assert fires(spec, started=moment + 1.1, count=1) == []


def test_a_moment_that_passed_while_nothing_ran_fires_late() -> None:
    spec = ScheduleSpec(at=datetime(2026, 1, 1, tzinfo=UTC))
    moment = utc("2026-01-01T00:00")
    assert step(spec, None, moment + 86_400, started=moment - 60) == Fire(fire_time=moment, iteration=0, skipped=0)
