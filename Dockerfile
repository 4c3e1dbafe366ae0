# The nodes, their weights and the page in the browser, for who has no ROS 2. docs/getting-started.md
# has the commands.
FROM ros:jazzy

RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv --system-site-packages /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir \
      'openvino>=2025.1' 'viser>=1.1.1' 'rosbags>=0.11' colcon-common-extensions

WORKDIR /ws
COPY package.xml src/hybrid_depth_ros/
RUN apt-get update && rosdep update --rosdistro jazzy \
 && rosdep install --rosdistro jazzy --from-paths src --ignore-src --dependency-types exec -y \
 && rm -rf /var/lib/apt/lists/*

COPY . src/hybrid_depth_ros
# by the venv's Python, which the executables then name
RUN . /opt/ros/jazzy/setup.sh && . /opt/venv/bin/activate && python -m colcon build
# one image through the network; the trial of the runtimes is remembered
RUN . install/setup.sh && ros2 run hybrid_depth_ros weights --check lite-nyu

EXPOSE 8080
ENTRYPOINT ["/bin/bash", "-c", "source /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "hybrid_depth_ros", "depth.launch.py", "viewer:=web", "viewer_host:=0.0.0.0"]
