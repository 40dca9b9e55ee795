# An application with a scheduler, and with requests that need time or memory.
import time

from gluon.scheduler import Scheduler

db = DAL("sqlite://storage.sqlite", pool_size=0)


def sleep_and_say(seconds):
    time.sleep(seconds)
    return "slept"


scheduler = Scheduler(db, heartbeat=1)
