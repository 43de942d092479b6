"""The recorded process: appends real updates through the real log, and marks each one it may acknowledge.

    python writer.py DIRECTORY UPDATES CHECKPOINT_PAGES COMMITS [FAIL_OP FAIL_ERRNO TIMES]

Prints how it ended: "done", or the name of the error. With FAIL_OP it does so TIMES times, each in a
directory of its own, and lets the first, second, ... such call fail; a negative mark begins each.
"""

import asyncio
import ctypes
import sys
from itertools import islice
from pathlib import Path

from plan import commits, read_updates, seal_after, snapshot_after

import storage.log
from collab.errors import CollabError
from storage.database import Database, FatalStorageError
from storage.log import UpdateLog
from storage.migrations import migrate

# Small, so that segments are made all the time.
storage.log.HOT, storage.log.SEGMENT = 8, 16

recorder = ctypes.CDLL(None)
recorder.recorder_mark.argtypes = [ctypes.c_int64]
recorder.recorder_fail.argtypes = [ctypes.c_char, ctypes.c_int, ctypes.c_int]


async def main(directory, updates, checkpoint_pages, commits, op="", error=0, times=1):
    for nth in range(1, int(times) + 1):
        recorder.recorder_mark(-nth)
        await write(f"{directory}/{nth}", updates, checkpoint_pages, int(commits), (op, nth, int(error)))


async def write(directory, updates, checkpoint_pages, number, failure):
    url = f"sqlite:///{directory}/collab.db"
    await migrate(url)
    database = await Database.open(url)
    pragma = f"PRAGMA wal_autocheckpoint = {checkpoint_pages}"
    await database.write(lambda connection: connection.exec_driver_sql(pragma).scalar_one())
    log = UpdateLog(database)
    recorder.recorder_mark(0)
    op, nth, error = failure
    if op:
        recorder.recorder_fail(op.encode(), nth, error)
    said = "done"
    for done, group in enumerate(islice(commits(read_updates(Path(updates))), number), 1):
        try:
            await log.append(group)
            recorder.recorder_mark(done)
            if snapshot := snapshot_after(done, group):
                await log.snapshot(*snapshot)
            if document := seal_after(done, group):
                await log.seal(document)
        except CollabError as error:
            said = type(error).__name__
            if isinstance(error, FatalStorageError):
                # It must not be talked into going on.
                for _ in range(3):
                    try:
                        await log.append(group)
                        said = "went on"
                    except FatalStorageError:
                        pass
            break
    recorder.recorder_fail(b" ", 0, 0)
    recorder.recorder_fail(b" ", 0, 0)
    await database.close()
    print(said)


asyncio.run(main(*sys.argv[1:]))
