"""From the folders of the ISIC 2018 Task 1 archives to a data set that training reads."""
