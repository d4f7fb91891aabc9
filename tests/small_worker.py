"""A reader's process with little memory."""

from nemoflows.search import workers

if __name__ == "__main__":
    workers.MAX_MEMORY_BYTES = 300 * 2**20
    workers.main()
