// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title The list of replicas while four agreements end, in every order
contract Lists is ForgeTest {
    bytes32 private constant PRODUCT = "acme-thermo2";
    uint64 private constant COUNT = 4;

    IWholeBlockOTA private _record;
    IFirmwareReplication private _replication;

    function setUp() external {
        vm.warp(1_700_000_000);
        _record = _deployBlockOTA(address(this));
        _record.pairOem(PRODUCT, "ACME", 0x0410, 0x0800_0000, 0x1_0000);
        IBlockOTA.Release[] memory releases = new IBlockOTA.Release[](1);
        (releases[0].product, releases[0].version, releases[0].sha256) = (PRODUCT, 1, keccak256("image"));
        (releases[0].loadAddress, releases[0].size) = (0x0800_0000, 1);
        _record.publish(releases);
    }

    function test_R4_theFirstEndsFirst() external {
        _endAll(1);
    }

    function test_R4_theSecondEndsFirst() external {
        _endAll(2);
    }

    function test_R4_theThirdEndsFirst() external {
        _endAll(3);
    }

    function test_R4_theLastEndsFirst() external {
        _endAll(4);
    }

    function _endAll(uint64 first) private {
        for (uint64 second = 1; second <= COUNT; ++second) {
            for (uint64 third = 1; third <= COUNT; ++third) {
                if (first == second || first == third || second == third) continue;
                _serve();
                _end([first, second, third, 1 + 2 + 3 + 4 - first - second - third]);
            }
        }
    }

    function _serve() private {
        bytes memory argument = abi.encode(_record);
        _replication = IFirmwareReplication(_deploy("FirmwareReplication", argument));
        for (uint64 id = 1; id <= COUNT; ++id) {
            vm.prank(address(uint160(id)));
            _replication.propose(PRODUCT, 1, type(uint40).max);
            _replication.accept(id, address(uint160(id)), PRODUCT, 1, type(uint40).max);
            vm.prank(address(uint160(id)));
            _replication.announce(id, PRODUCT, 1, "https://broker.example");
        }
    }

    function _end(uint64[COUNT] memory order) private {
        bool[COUNT + 1] memory ended;
        for (uint64 i = 0; i < COUNT; ++i) {
            _replication.terminate(order[i], address(uint160(order[i])), PRODUCT, 1, type(uint40).max);
            ended[order[i]] = true;
            IFirmwareReplication.Agreement[] memory served = _replication.replicas(PRODUCT, 1, 0, COUNT + 1);
            uint64 found = 0;
            for (uint64 id = COUNT; id > 0; --id) {
                if (ended[id]) continue;
                require(found < served.length && served[found].id == id, "R4: left out");
                ++found;
            }
            require(found == served.length && found == COUNT - 1 - i, "R4: served though it ended");
        }
    }
}
