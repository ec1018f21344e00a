"""What a build will take: hours, worker hours by stage, storage and money, from rates measured on a finished run."""
