"""A program in a process of its own, which sleeps while another one is measured."""

import multiprocessing
import os

from .registry import Unavailable


def first_line(error: Exception) -> str:
    """Some libraries put whole tensors into their messages."""
    return (str(error).splitlines() or [""])[0][:300]


def serve(connection, make, arguments) -> None:
    """In a process of its own: makes the program, then runs cases as they come."""
    # Libraries that talk on stdout talk on stderr instead.
    os.dup2(2, 1)
    try:
        program = make(*arguments)
        connection.send({"ready": True})
        while (case := connection.recv()) is not None:
            warm_up = {**case, "tokens": case["other_tokens"]} if "other_tokens" in case else case
            program.run(warm_up)
            connection.send(program.run(case))
    except (ImportError, Unavailable) as reason:
        connection.send({"unavailable": first_line(reason)})
    except Exception as error:
        connection.send({"failed": f"{type(error).__name__}: {first_line(error)}"})


class Remote:
    def __init__(self, make, *arguments):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.receive()

    def receive(self) -> dict:
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"the process ended with {self.process.exitcode}") from None
        if "unavailable" in answer:
            raise Unavailable(answer["unavailable"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def run(self, case: dict) -> dict:
        self.connection.send(case)
        return self.receive()

    def close(self) -> None:
        self.connection.send(None)
        self.process.join()
