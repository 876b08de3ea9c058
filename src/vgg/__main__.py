"""`python -m vgg COMMAND`."""

from vgg.commands.cli import command

if __name__ == "__main__":
    command()
