"""What training code imports: a DataCube as a step of a pipeline of its own."""
