import hashlib


def queue():
    session.forget(response)
    task = scheduler.queue_task("sleep_and_say", pargs=[int(request.args(0))], timeout=60)
    return str(task["id"])


def outcome():
    session.forget(response)
    task = scheduler.task_status(int(request.args(0)), output=True)
    return response.json(
        {
            "status": task.scheduler_task.status,
            "run": task.scheduler_run.status,
            "result": task.result if task.scheduler_run.id else None,
        }
    )


def stream():
    session.forget(response)
    response.headers["Content-Length"] = str(200 << 20)
    return pieces(3200)


def pieces(number):
    for _ in range(number):
        yield b"x" * 65536


def memory():
    session.forget(response)
    return str(len(b"x" * (int(request.args(0)) << 20)))


def length():
    session.forget(response)
    size = 0
    while piece := request.body.read(1 << 20):
        size += len(piece)
    return str(size)


def slow():
    session.forget(response)
    time.sleep(float(request.args(0)))
    return "done"


def digest():
    session.forget(response)
    return hashlib.file_digest(request.body, "sha256").hexdigest()
