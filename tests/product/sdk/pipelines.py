"""Pipelines written in Python: sent, watched, read back, downloaded with their logs, and put on schedules."""

from datetime import datetime, timedelta

from azure.ai.ml import Input, Output, command, dsl, load_component
from azure.ai.ml.constants import TimeZone
from azure.ai.ml.entities import (
    AmlCompute,
    CronTrigger,
    Environment,
    JobSchedule,
    RecurrencePattern,
    RecurrenceTrigger,
)
from azure.ai.ml.entities._load_functions import load_schedule
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from common import CONDA, IMAGE, client, files_in, folder, refused, write

COUNT = """
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: count_lines
version: 1
inputs: {data: {type: uri_folder}, unit: {type: string, default: lines}}
outputs: {out: {type: uri_folder}}
environment: azureml:shell@latest
code: ./src
command: cat ${{inputs.data}}/* | wc -l > ${{outputs.out}}/count.txt; echo counted ${{inputs.unit}}
"""
JOB = """
type: pipeline
settings: {default_compute: "azureml:steps"}
jobs:
  one: {type: command, environment: "azureml:shell@latest", command: "echo hi"}
"""
SCHEDULE = """
$schema: https://azuremlschemas.azureedge.net/latest/schedule.schema.json
name: from-yaml
display_name: Every morning
trigger:
  type: recurrence
  frequency: day
  interval: 1
  schedule: {hours: [4, 5], minutes: [0, 30]}
  start_time: "2022-07-10T10:00:00"
  time_zone: "Pacific Standard Time"
create_job: ./job.yml
"""
jobs, schedules = client.jobs, client.schedules

client.compute.begin_create_or_update(AmlCompute(name="steps", min_instances=0, max_instances=1)).result()
client.environments.create_or_update(Environment(name="shell", conda_file=write("conda.yml", CONDA), image=IMAGE))
write("src/none.py", "")
for number in range(3):
    write(f"data/{number}.csv", "a\n1\n")
count = load_component(write("count.yml", COUNT))
shout = command(
    name="shout",
    environment="shell@latest",
    command="echo ${{inputs.greeting}} $(cat ${{inputs.counted}}/count.txt) | tee ${{outputs.said}}/said.txt",
    inputs={"counted": Input(type="uri_folder"), "greeting": "hello"},
    outputs={"said": Output(type="uri_folder")},
    environment_variables={"A": "b"},
)


@dsl.pipeline(name="counting", description="counts", tags={"a": "b"})
def counting(data, greeting="hi"):
    one = count(data=data)
    two = shout(counted=one.outputs.out, greeting=greeting)
    return {"said": two.outputs.said}


def made():
    pipeline = counting(data=Input(type="uri_folder", path=str(folder / "data")))
    pipeline.settings.default_compute = "steps"
    pipeline.experiment_name = "counts"
    return pipeline


# -- a job and its steps

job = jobs.create_or_update(made())
jobs.stream(job.name)
found = jobs.get(job.name)
assert (found.status, found.description, found.tags) == ("Completed", "counts", {"a": "b"})
assert set(found.jobs) == {"one", "two"}
assert jobs.show_services(job.name) is None
steps = {each.display_name: each.name for each in jobs.list(parent_job_name=job.name)}
assert set(steps) == {"one", "two"}
assert jobs.get(steps["two"]).status == "Completed"
jobs.stream(steps["two"])
jobs.download(job.name, download_path=str(folder / "all"), all=True)
assert files_in(folder / "all") == {"named-outputs/said/said.txt": b"hi 6\n"}
jobs.download(steps["two"], download_path=str(folder / "step"), all=True)
fetched = files_in(folder / "step")
assert fetched["named-outputs/said/said.txt"] == b"hi 6\n"
assert b"hi 6" in fetched["artifacts/user_logs/std_log.txt"]
jobs.download(steps["one"], download_path=str(folder / "logs"))  # only the logs
assert b"counted lines" in files_in(folder / "logs")["artifacts/user_logs/std_log.txt"]
found.tags["x"] = "y"
found.display_name = "Counted"
assert jobs.create_or_update(found).tags == {"a": "b", "x": "y"}
jobs.archive(job.name)
assert job.name not in {each.name for each in jobs.list()}
jobs.restore(job.name)
assert job.name in {each.name for each in jobs.list()}
alone = command(command="echo hi", environment="shell@latest", compute="steps")
refused(HttpResponseError, lambda: jobs.create_or_update(alone), "make a command a step")

# -- schedules


def saved(name, trigger, create_job=None, **more):
    schedule = JobSchedule(name=name, trigger=trigger, create_job=create_job or made(), **more)
    return schedules.begin_create_or_update(schedule).result()


start = datetime(2040, 1, 2, 3, 4, 5)  # noqa: DTZ001 -- as the SDK takes it
cron = CronTrigger(
    expression="15 10 * * 1",
    start_time=start,
    end_time=start + timedelta(days=400),
    time_zone=TimeZone.PACIFIC_STANDARD_TIME,
)
mondays = saved("mondays", cron, display_name="Mondays", description="each week", tags={"a": "b"})
assert (mondays.display_name, mondays.description, mondays.tags) == ("Mondays", "each week", {"a": "b"})
assert (mondays.trigger.expression, mondays.trigger.time_zone) == ("15 10 * * 1", "Pacific Standard Time")
assert mondays.trigger.start_time == start.isoformat()
daily = RecurrenceTrigger(frequency="day", interval=1, schedule=RecurrencePattern(hours=10, minutes=[0, 1]))
assert saved("daily", daily).trigger.schedule.minutes == [0, 1]
weekly = RecurrencePattern(hours=10, minutes=0, week_days=["monday", "friday"])
fortnight = saved("fortnight", RecurrenceTrigger(frequency="week", interval=2, schedule=weekly), job.id)
assert (fortnight.trigger.frequency, fortnight.trigger.interval) == ("week", 2)
saved("again", CronTrigger(expression="0 3 * * *"), jobs.get(job.name))
write("job.yml", JOB)
schedules.begin_create_or_update(load_schedule(write("schedule.yml", SCHEDULE))).result()
names = {"mondays", "daily", "fortnight", "again", "from-yaml"}
assert {each.name for each in schedules.list()} >= names
assert schedules.begin_disable("daily").result().is_enabled is False
assert "daily" not in {each.name for each in schedules.list()}
assert schedules.begin_enable("daily").result().is_enabled is True
for name in ("mondays", "fortnight", "again"):
    run = schedules.trigger(name)
    assert run.schedule_action_type == "CreateJob"
    jobs.stream(run.job_name)
    assert jobs.get(run.job_name).status == "Completed", name
    jobs.download(run.job_name, download_path=str(folder / name), output_name="said")
    assert list(files_in(folder / name).values()) == [b"hi 6\n"], name
for name in names:
    schedules.begin_delete(name).result()
refused(ResourceNotFoundError, lambda: schedules.get("mondays"))
